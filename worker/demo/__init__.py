"""The demo model: a small Stable Diffusion checkpoint that draws what it is told."""
