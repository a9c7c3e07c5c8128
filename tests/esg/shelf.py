"""A module of the user's with a state: random programs use it as `m`."""

total = 0
items: list[object] = []


def count() -> int:
    global total
    total += 1
    return total


def note(item: object) -> int:
    items.append(item)
    return len(items)
