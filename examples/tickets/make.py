"""Writes tickets.csv: 400 generated support tickets, the queue that each belongs to, and why.

A ticket names a thing and what is wrong with it. The queue follows from what is wrong, not from the thing.
"""

import csv
import random

THINGS = "router phone laptop printer camera headset tablet monitor keyboard charger".split()
OPENINGS = ("Hello,", "Hi there,", "Good morning,", "To whom it may concern:", "Hey,")
CLOSINGS = ("Please help.", "Thanks a lot!", "What can I do?", "I am waiting for your answer.", "Best wishes")
WRONG = {  # queue -> (what a customer writes, what it is about)
    "billing": [
        ("I was charged twice for the {thing}", "a charge that came twice"),
        ("the invoice of my {thing} shows another price", "a price on an invoice"),
        ("my card was debited although I sent the {thing} back", "a debit after a return"),
        ("the discount for the {thing} is not on my bill", "a discount that a bill lacks"),
    ],
    "shipping": [
        ("the {thing} has not arrived yet", "something that did not arrive"),
        ("the parcel with my {thing} went to the old address", "a wrong address"),
        ("the courier left my {thing} in the rain", "what a courier did"),
        ("tracking says that the {thing} is still in the depot", "a parcel's tracking"),
    ],
    "technical": [
        ("my {thing} does not turn on", "a device that does not turn on"),
        ("the {thing} loses its connection every hour", "a connection that is lost"),
        ("after the update the {thing} shows an error", "an error after an update"),
        ("the {thing} gets very hot", "a device that gets hot"),
    ],
}


def main() -> None:
    """Writes the file, the same one each time."""
    draw = random.Random(0)
    with open("tickets.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["ticket", "queue", "why"])
        for _ in range(400):
            queue = draw.choice(list(WRONG))
            written, about = draw.choice(WRONG[queue])
            text = " ".join(
                (draw.choice(OPENINGS), written.format(thing=draw.choice(THINGS)) + ".", draw.choice(CLOSINGS))
            )
            writer.writerow([text, queue, f"It is about {about}, so it goes to {queue}."])


if __name__ == "__main__":
    main()
