"""Small slides of pink tissue on glass, and encoders that are quick or fail in a known way."""

import numpy as np

MPP = 0.5


def write_slide(path, seed=0, width=1536, height=1024, tissue=(256, 1280, 256, 768), mpp=MPP):
    """Write a tiled TIFF with one textured rectangle of tissue: x from, to, y from, to (px)."""
    import tifffile
    from scipy import ndimage

    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 243, np.uint8)
    if tissue is not None:
        left, right, top, bottom = tissue
        shape = (bottom - top, right - left)
        stain = ndimage.gaussian_filter(rng.normal(size=shape), 3) * 8
        nuclei = ndimage.gaussian_filter(rng.normal(size=shape), 5) > 0.06
        colour = np.array([225, 150, 190]) + 12 * stain[..., None]
        colour[nuclei] = np.array([90, 60, 150]) + 10 * stain[nuclei][:, None]
        noise = rng.normal(0, 4, (*shape, 3))
        image[top:bottom, left:right] = np.clip(colour + noise, 0, 255)
    resolution = None if mpp is None else (10000 / mpp, 10000 / mpp)
    tifffile.imwrite(
        path,
        image,
        tile=(256, 256),
        photometric="rgb",
        compression="deflate",
        resolution=resolution,
        resolutionunit="CENTIMETER" if mpp else "NONE",
    )
    return path


class Linear:
    """A tiny network: one linear layer of torch over means of 16 x 16 pixels."""

    id = "linear-1"
    dim = 8
    patch_px = 128
    mpp = MPP
    pretrained_on = ("unknown",)
    dtype = "float16"
    feature_names = None
    in_reader = False
    precision = "float32"

    def __init__(self):
        import torch

        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn((3 * 64, self.dim), generator=generator)
        self.sizes = []

    def encode(self, images):
        import torch

        self.sizes.append(len(images))
        if images.shape[1:] != (self.patch_px, self.patch_px, 3):
            raise ValueError(f"patches of {images.shape[1:]}")
        with torch.inference_mode():
            pixels = torch.from_numpy(images).float().permute(0, 3, 1, 2) / 255
            return (torch.nn.functional.avg_pool2d(pixels, 16).flatten(1) @ self.weights).numpy()


class Small(Linear):
    """A device that holds only so many patches at a time."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def encode(self, images):
        import torch

        if len(images) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return super().encode(images)


class Overflowing(Linear):
    """Gives a value that float16 does not hold, of patches at x = 512 px."""

    id = "overflowing-1"

    def encode(self, images):
        found = super().encode(images)
        found[found[:, 0] > np.median(found[:, 0]), 3] = 70_000
        return found


class Pyramid(Linear):
    """Patches, and regions of 4 x 4 of them."""

    id = "pyramid-1"
    region_patches = 4
    region_dim = 3

    def encode_region(self, image, batch_size=32):
        side = self.patch_px
        rows, columns = image.shape[0] // side, image.shape[1] // side
        tiles = image.reshape(rows, side, columns, side, 3).swapaxes(1, 2)
        tiles = np.ascontiguousarray(tiles.reshape(-1, side, side, 3))
        patches = np.concatenate(
            [self.encode(tiles[i : i + batch_size]) for i in range(0, len(tiles), batch_size)]
        )
        return patches, patches.mean(axis=0), image.mean(axis=(0, 1)).astype(np.float32)
