"""Images changed at random: what each change keeps, bounds and leaves alone (row F5)."""

from __future__ import annotations

import numpy as np
import pytest

import symgrad as sg
from symgrad.errors import InputError

RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(size=(40, 3, 9, 7)).astype("float32")
CHANGES = {
    "shift": lambda x, rng: sg.augment.shift(x, 2, rng),
    "crop": lambda x, rng: sg.augment.crop(x, (9, 7), rng, padding=2),
    "flip": lambda x, rng: sg.augment.flip(x, rng),
    "flip down": lambda x, rng: sg.augment.flip(x, rng, axis=-2),
    "rotate": lambda x, rng: sg.augment.rotate(x, 30, rng),
    "color": lambda x, rng: sg.augment.color(x, rng, 0.3, 0.3, 0.3),
    "noise": lambda x, rng: sg.augment.noise(x, 0.1, rng),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_keeps_form_and_is_reproducible(name):
    change, before = CHANGES[name], IMAGES.copy()
    found = change(IMAGES, 3)
    assert found.shape == IMAGES.shape and found.dtype == IMAGES.dtype
    assert found.flags.c_contiguous and np.isfinite(found).all()
    np.testing.assert_array_equal(IMAGES, before)  # what is given is left alone
    np.testing.assert_array_equal(found, change(IMAGES, np.random.default_rng(3)))
    assert (found != IMAGES).any() and (found != change(IMAGES, 4)).any()
    grey = change(IMAGES[:, 0], 3)
    assert grey.shape == IMAGES[:, 0].shape
    pixels = change((IMAGES * 255).astype("uint8"), 3)
    assert pixels.dtype == "uint8"


def test_shifts_move_by_whole_pixels():
    found = sg.augment.shift(IMAGES, 2, 0)
    seen = set()
    for image, moved in zip(IMAGES, found):
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        places = [
            (i, j)
            for i in range(5)
            for j in range(5)
            if (padded[:, i : i + 9, j : j + 7] == moved).all()
        ]
        assert len(places) == 1
        seen |= set(places)
    assert len(seen) > 12  # of 25
    np.testing.assert_array_equal(sg.augment.shift(IMAGES, 0, 0), IMAGES)


def test_crops_are_windows():
    found = sg.augment.crop(IMAGES, 5, 0)
    assert found.shape == (40, 3, 5, 5)
    for image, part in zip(IMAGES, found):
        windows = np.lib.stride_tricks.sliding_window_view(image, (3, 5, 5))
        assert (windows == part).all((-1, -2, -3)).any()


def test_flips_mirror_half_of_the_images():
    found = sg.augment.flip(IMAGES, 0)
    mirrored = (found == IMAGES[..., ::-1]).all((1, 2, 3))
    assert (found[~mirrored] == IMAGES[~mirrored]).all() and 10 < mirrored.sum() < 30
    np.testing.assert_array_equal(sg.augment.flip(IMAGES, 0, p=1.0, axis=-2), IMAGES[:, :, ::-1])


def test_rotations_agree_with_scipys():
    ndimage = pytest.importorskip("scipy.ndimage")
    square = RNG.uniform(size=(6, 1, 11, 11))
    angles = np.random.default_rng(5).uniform(-40, 40, 6)
    found = sg.augment.rotate(square, 40, 5, fill=0.5)
    for image, turned, angle in zip(square, found, angles):
        exact = ndimage.rotate(
            image[0], angle, reshape=False, order=1, cval=0.5, mode="grid-constant"
        )
        np.testing.assert_allclose(turned[0], exact, atol=1e-12)
    np.testing.assert_allclose(sg.augment.rotate(square, 0.0, 1), square, atol=1e-12)


def test_colors_keep_what_they_say():
    light = sg.augment.color(IMAGES, 0, brightness=0.5)
    factor = light / IMAGES
    assert factor.std((1, 2, 3)).max() < 1e-5
    assert factor.min() >= 0.5 - 1e-6 and factor.max() <= 1.5 + 1e-6
    mean = (1, 2, 3)
    clear = sg.augment.color(IMAGES, 0, contrast=0.5)
    np.testing.assert_allclose(clear.mean(mean), IMAGES.mean(mean), rtol=1e-5)
    bright = sg.augment.color(IMAGES, 0, saturation=0.5)
    np.testing.assert_allclose(bright.mean(1), IMAGES.mean(1), rtol=1e-4)
    noisy = sg.augment.noise(IMAGES, 0.2, 0) - IMAGES
    assert noisy.std() == pytest.approx(0.2, rel=0.02)


def test_errors():
    augment = sg.augment
    for make, message in (
        (lambda: augment.shift(IMAGES[0, 0], 1), r"shift: images must be .* got \(9, 7\)"),
        (lambda: augment.shift(IMAGES, -1), "shift: pixels must be an int from 0 on, got -1"),
        (lambda: augment.crop(IMAGES, 8), "crop: width 8 is more than the 7"),
        (lambda: augment.crop(IMAGES, 0), "crop: height must be an int from 1 on, got 0"),
        (lambda: augment.flip(IMAGES, p=1.5), r"flip: p must be in \[0, 1\], got 1.5"),
        (lambda: augment.flip(IMAGES, axis=1), "flip: axis is -1 .* got 1"),
        (lambda: augment.rotate(IMAGES, -3), "rotate: degrees must be finite .* got -3"),
        (lambda: augment.color(IMAGES, contrast=2), r"color: contrast must be in \[0, 1\], got 2"),
        (lambda: augment.noise(IMAGES, float("nan")), "noise: std must be finite .* got nan"),
    ):
        with pytest.raises(InputError, match=message):
            make()
