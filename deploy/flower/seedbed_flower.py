"""Flower's Celery configuration: where the workers of a pool say that they are there.

Seedbed keeps each pool's Celery keys under a prefix of the pool's (`shared/doorbell.py`).
"""

import os

POOL = os.environ["SEEDBED_POOL"]

broker_url = os.environ["CELERY_BROKER_URL"]
broker_transport_options = {"global_keyprefix": f"seedbed:{{{POOL}}}:celery:"}
accept_content = ["json"]
task_ignore_result = True
