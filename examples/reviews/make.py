"""Writes reviews.csv: 300 generated product reviews without labels, and labelled.jsonl: 60 more, to test on."""

import csv
import json
import random

THINGS = "kettle lamp backpack blender chair tent jacket speaker watch fan".split()
GOOD = ("works as promised", "looks better than on the picture", "was easy to set up", "is worth its price")
BAD = ("broke after a week", "is louder than a train", "came without its screws", "smells of glue")
MIXED = ("is fine, no more and no less", "does what it should, at a price", "is neither good nor bad")
CLASSES = {"positive": GOOD, "negative": BAD, "neutral": MIXED}


def review(draw: random.Random) -> tuple[str, str]:
    """A review and its class."""
    label = draw.choice(list(CLASSES))
    text = f"The {draw.choice(THINGS)} {draw.choice(CLASSES[label])}."
    more = draw.choice(("Came on a Monday.", "Bought it for my sister.", "My second one.", "It is blue."))
    return " ".join(draw.sample((text, more), 2)), label


def main() -> None:
    """Writes both files, the same ones each time."""
    draw = random.Random(1)
    with open("reviews.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "input"], *([n, review(draw)[0]] for n in range(300))])
    with open("labelled.jsonl", "w") as file:
        for text, label in (review(draw) for _ in range(60)):
            file.write(json.dumps({"input": text, "label": label}) + "\n")


if __name__ == "__main__":
    main()
