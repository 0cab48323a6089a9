from distill_jax.scoring.classes import class_report, confusion_matrix

CLASSES = ("a", "b")


def test_confusion_and_report_by_hand():
    targets = ["a", "a", "a", "b", "b", "not a class"]
    predictions = ["a", " a ", "b", "b", None, "a"]
    counts = confusion_matrix(targets, predictions, CLASSES)
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1]]
    report = class_report(counts, CLASSES)
    assert report["a"] == {"precision": 1.0, "recall": 2 / 3, "f1": 0.8, "support": 3}
    assert report["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 2}


def test_a_class_that_nobody_predicts_or_has_is_all_zero():
    report = class_report(confusion_matrix(["a"], ["a"], CLASSES), CLASSES)
    assert report["b"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}
