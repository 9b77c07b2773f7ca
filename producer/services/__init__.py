"""The processes of the embedded stack: Redis, an S3 server, a worker, and who keeps them."""
