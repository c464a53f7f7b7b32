"""Note where a picture's words stand, to see that none is cut off and none lies on another."""

import itertools

from PIL import ImageDraw


def watch_words(monkeypatch):
    """Give a list that fills with (words, pen, image size, box) while pictures are drawn."""
    written = []
    real = ImageDraw.ImageDraw.text

    def text(self, place, words, fill=None, font=None, anchor=None):
        box = self.textbbox(place, words, font=font, anchor=anchor)
        written.append((words, self, self.im.size, box))
        return real(self, place, words, fill, font, anchor)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", text)
    return written


def misplaced(written):
    """List words that leave their picture, and pairs that lie on each other."""
    outside = [
        words
        for words, _, (width, height), (left, top, right, bottom) in written
        if left < 0 or top < 0 or right > width or bottom > height
    ]
    overlapping = [
        (one[0], two[0])
        for one, two in itertools.combinations(written, 2)
        if one[1] is two[1]
        and one[3][0] < two[3][2]
        and two[3][0] < one[3][2]
        and one[3][1] < two[3][3]
        and two[3][1] < one[3][3]
    ]
    return outside + overlapping
