# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 02 · Forward diffusion
# <!-- lesson-header -->

# %% tags=["setup"]
import torch
from coursework import check

# %% [markdown]
# <!-- exercise 02.1 -->
# Write one step of the forward process.


# %% tags=["answer"] exercise="02.1"
def q_step(x_prev: torch.Tensor, beta: float | torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """One step of the forward process, from x_{t-1} to x_t."""
    # BEGIN SOLUTION
    beta = torch.as_tensor(beta, dtype=x_prev.dtype)
    beta = beta.reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta.sqrt() * noise
    # END SOLUTION


# %% tags=["check"]
check("02.1")

# %% [markdown]
# <!-- exercise 02.2 -->
# Write the jump from x0 to any noise level.


# %% tags=["answer"] exercise="02.2"
def q_sample(
    x0: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, noise: torch.Tensor
) -> torch.Tensor:
    """x_t for clean samples x0, each at its own time."""
    # BEGIN SOLUTION
    ab = alpha_bar[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    return ab.sqrt() * x0 + (1 - ab).sqrt() * noise
    # END SOLUTION


# %% tags=["check"]
check("02.2")
