"""A vision transformer as DINO trains it, computed from its published tensors by their names."""

from tabular_trainers.embed.requirements import need

# The positions of both networks of HIPT were learnt on 14 x 14 grids (224 px in patches of 16 px).
LEARNT_GRID = 14
MLP_RATIO = 4
EPSILON = 1e-6


def block_shapes(dim, depth):
    """List the tensors of a transformer without its first layer.

    Parameters
    ----------
    dim : int
        Length of a token.
    depth : int
        Number of blocks.

    Returns
    -------
    dict
        Name, as in the published checkpoints, to shape.
    """
    shapes = {"cls_token": (1, 1, dim), "pos_embed": (1, LEARNT_GRID**2 + 1, dim)}
    layers = {
        "attn.qkv": (3 * dim, dim),
        "attn.proj": (dim, dim),
        "mlp.fc1": (MLP_RATIO * dim, dim),
        "mlp.fc2": (dim, MLP_RATIO * dim),
    }
    norms = ["norm"]
    for block in range(depth):
        norms += [f"blocks.{block}.norm1", f"blocks.{block}.norm2"]
        for layer, shape in layers.items():
            shapes[f"blocks.{block}.{layer}.weight"] = shape
            shapes[f"blocks.{block}.{layer}.bias"] = shape[:1]
    for norm in norms:
        shapes[f"{norm}.weight"] = shapes[f"{norm}.bias"] = (dim,)
    return shapes


class Transformer:
    """From tokens on a grid to the vector of the class token.

    Parameters
    ----------
    weights : dict
        The tensors that ``block_shapes`` lists, on one device.
    depth : int
        Number of blocks.
    heads : int
        Number of attention heads.

    References
    ----------
    Dosovitskiy et al. (2021), An image is worth 16x16 words, ICLR. Caron et al. (2021), Emerging
    properties in self-supervised vision transformers, ICCV (the rule for positions on other grids).
    """

    def __init__(self, weights, depth, heads):
        self._weights = weights
        self._depth = depth
        self._heads = heads
        self._positions = {}

    def __call__(self, tokens, rows, columns):
        """Compute the class token after the last block.

        Parameters
        ----------
        tokens : tensor (n, rows * columns, dim)
            In row-major order.
        rows, columns : int
            The grid.

        Returns
        -------
        tensor (n, dim)
        """
        torch = need("torch")
        start = self._weights["cls_token"].expand(len(tokens), -1, -1)
        x = torch.cat([start, tokens], dim=1) + self._positions_of(rows, columns)
        for block in range(self._depth):
            x = self._block(x, f"blocks.{block}", only_first=block == self._depth - 1)
        return self._norm(x, "norm")[:, 0]

    def _block(self, x, name, only_first):
        """Attention, then two layers, each added to what came in.

        After the last block only the class token is used: ``only_first`` leaves the rest out, which
        saves a twelfth of the work and changes nothing.
        """
        functional = need("torch.nn.functional")
        n, length, dim = x.shape
        qkv = self._linear(self._norm(x, f"{name}.norm1"), f"{name}.attn.qkv")
        query, key, value = qkv.reshape(n, length, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        if only_first:
            query, x, length = query[:, :, :1], x[:, :1], 1
        attended = functional.scaled_dot_product_attention(query, key, value)
        attended = attended.transpose(1, 2).reshape(n, length, dim)
        x = x + self._linear(attended, f"{name}.attn.proj")
        hidden = self._linear(self._norm(x, f"{name}.norm2"), f"{name}.mlp.fc1")
        return x + self._linear(functional.gelu(hidden), f"{name}.mlp.fc2")

    def _positions_of(self, rows, columns):
        """Interpolate the learnt positions to a grid by DINO's rule.

        The scale factor is (grid + 0.1) / 14, not grid / 14: the 0.1 keeps rounding from losing a
        row, but it also shifts where the curve is read, so it is part of what the authors' features
        are.
        """
        if (rows, columns) not in self._positions:
            torch = need("torch")
            learnt = self._weights["pos_embed"]
            if (rows, columns) != (LEARNT_GRID, LEARNT_GRID):
                grid = learnt[:, 1:].reshape(1, LEARNT_GRID, LEARNT_GRID, -1).permute(0, 3, 1, 2)
                grid = torch.nn.functional.interpolate(
                    grid,
                    scale_factor=((rows + 0.1) / LEARNT_GRID, (columns + 0.1) / LEARNT_GRID),
                    mode="bicubic",
                )
                learnt = torch.cat([learnt[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)
            self._positions[rows, columns] = learnt
        return self._positions[rows, columns]

    def _linear(self, x, name):
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return need("torch.nn.functional").linear(x, weight, bias)

    def _norm(self, x, name):
        weight, bias = self._weights[f"{name}.weight"], self._weights[f"{name}.bias"]
        return need("torch.nn.functional").layer_norm(x, weight.shape, weight, bias, EPSILON)
