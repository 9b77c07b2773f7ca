"""The schedulers a sweep may name: diffusers' class names, known without importing diffusers."""

from __future__ import annotations

SCHEDULERS: frozenset[str] = frozenset(
    {
        "CMStochasticIterativeScheduler",
        "CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler",
        "DDIMParallelScheduler",
        "DDIMScheduler",
        "DDPMParallelScheduler",
        "DDPMScheduler",
        "DEISMultistepScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSDEScheduler",
        "DPMSolverSinglestepScheduler",
        "EDMDPMSolverMultistepScheduler",
        "EDMEulerScheduler",
        "EulerAncestralDiscreteScheduler",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchHeunDiscreteScheduler",
        "FlowMatchLCMScheduler",
        "HeunDiscreteScheduler",
        "IPNDMScheduler",
        "KDPM2AncestralDiscreteScheduler",
        "KDPM2DiscreteScheduler",
        "LCMScheduler",
        "LMSDiscreteScheduler",
        "PNDMScheduler",
        "SASolverScheduler",
        "SCMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
    }
)
"""Text-to-image samplers of diffusers; which of them fit a checkpoint, its worker knows."""

TAKES_ETA: frozenset[str] = frozenset(
    {
        "CogVideoXDDIMScheduler",
        "CogVideoXDPMScheduler",
        "DDIMParallelScheduler",
        "DDIMScheduler",
        "TCDScheduler",
    }
)
"""Those whose ``step`` has an ``eta``: with any other, the field can't act."""

TAKES_TIMESTEPS: frozenset[str] = frozenset(
    {
        "CMStochasticIterativeScheduler",
        "DDPMParallelScheduler",
        "DDPMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchLCMScheduler",
        "HeunDiscreteScheduler",
        "LCMScheduler",
        "SCMScheduler",
        "TCDScheduler",
    }
)
"""Those whose ``set_timesteps`` takes ``timesteps``."""

TAKES_SIGMAS: frozenset[str] = frozenset(
    {
        "EDMEulerScheduler",
        "EulerDiscreteScheduler",
        "FlowMatchEulerDiscreteScheduler",
        "FlowMatchLCMScheduler",
        "UniPCMultistepScheduler",
    }
)
"""Those whose ``set_timesteps`` takes ``sigmas``."""


def takes_eta(scheduler: str | None) -> bool:
    """Whether ``eta`` can act; unknown (the checkpoint's own scheduler) counts as yes."""
    return scheduler is None or scheduler in TAKES_ETA
