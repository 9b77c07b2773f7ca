"""Keep the model libraries' own chatter off the terminal; what matters reaches users our way."""

from __future__ import annotations

import logging
import warnings


def quieten() -> None:
    """Silence diffusers' and transformers' progress bars and advice, for the whole process.

    What they would have said and users need (a prompt that was cut, a model that is not there)
    is in ``Rendered.notes`` and in ``ModelError``.
    """
    import diffusers.utils.logging
    import transformers.utils.logging
    from huggingface_hub.utils.tqdm import disable_progress_bars

    for library in (diffusers.utils.logging, transformers.utils.logging):
        library.set_verbosity_error()
        library.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    disable_progress_bars()
    # A NaN image is found and reported by the renderer; numpy's word for it adds nothing.
    warnings.filterwarnings("ignore", "invalid value encountered in cast", RuntimeWarning)
    # torchsde compares DPMSolverSDE's float32 times with float64 ones: off by rounding, harmless.
    warnings.filterwarnings("ignore", "Should have t[ab][<>]=t[01] but got", UserWarning)
