"""How alike two models' representations are. Rows are the same tokens in both."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from mdmcourse.errors import InputError


def linear_cka(x: Float[Tensor, "token d_x"], y: Float[Tensor, "same_token d_y"]) -> float:
    """Linear centred kernel alignment: 1 if one is a rotated and scaled copy of the other, about 0 if they have nothing
    in common and there are many more tokens than dimensions. Kornblith et al. (arXiv 1905.00414), section 3:
    |X^T Y|^2 / (|X^T X| |Y^T Y|), Frobenius norms, columns centred.

    Raises InputError if the rows differ in number, are fewer than two, or do not vary.
    """
    _check(x, y)
    x, y = (each.double() - each.double().mean(dim=0) for each in (x, y))
    own = torch.linalg.matrix_norm(x.T @ x) * torch.linalg.matrix_norm(y.T @ y)
    if float(own) == 0:
        raise InputError(
            "All rows of one side are equal.",
            "What does not vary has no structure to compare.",
            "Use tokens that differ: not, for instance, the embeddings of masks only.",
        )
    return float(torch.linalg.matrix_norm(x.T @ y).square() / own)


def resampled_cka(
    x: Float[Tensor, "token d_x"], y: Float[Tensor, "same_token d_y"], counts: Float[Tensor, "resample token"]
) -> Float[Tensor, " resample"]:
    """`linear_cka` with every token taken as often as a row of `counts` says, for each of its rows: for a bootstrap.

    By kernels, K = X X^T and L = Y Y^T, that are computed once. Centred with the counts w as weights (n in all),
    sum_ij w_i w_j K_ij L_ij = w^T (K * L) w - 2/n w^T (Kw * Lw) + 1/n^2 (w^T K w)(w^T L w), where K and L on the left
    are centred, and * goes number by number.

    Raises InputError if the rows of x and y differ in number or are fewer than two. Where a row of `counts` leaves
    nothing that varies, the result is NaN.
    """
    _check(x, y)
    # Against cancellation only. A mean would be dragged far away by a few giants, which a row may not contain.
    x, y = (each.double() - each.double().median(dim=0).values for each in (x, y))
    k, l, w = x @ x.T, y @ y.T, counts.double()  # noqa: E741
    n = w.sum(dim=1)
    kw, lw = w @ k, w @ l

    def common(one: Tensor, one_w: Tensor, other: Tensor, other_w: Tensor) -> Tensor:
        crossed = (w * one_w * other_w).sum(dim=1)
        return (
            torch.einsum("ri,ij,rj->r", w, one * other, w)
            - 2 / n * crossed
            + (w * one_w).sum(dim=1) * (w * other_w).sum(dim=1) / n.square()
        )

    return common(k, kw, l, lw) / (common(k, kw, k, kw) * common(l, lw, l, lw)).sqrt()


def cosine_similarity(x: Float[Tensor, "token d"], y: Float[Tensor, "same_token d"]) -> float:
    """Mean cosine of the angle between the two vectors of a token: 1 if they point the same way in all tokens.

    Unlike CKA it asks for the same directions, so it means something only if one model came from the other.
    """
    _check(x, y)
    return float(torch.nn.functional.cosine_similarity(x.double(), y.double(), dim=-1).mean())


def _check(x: Tensor, y: Tensor) -> None:
    if len(x) != len(y) or len(x) < 2:
        raise InputError(
            f"{len(x)} rows meet {len(y)}.",
            "Each row is one token, the same in both models; two at least.",
            "Read the same tokens with both models.",
        )
