"""Runs on MicroPython: what a loaded model, the model of last resort and the self-test do, one behaviour per check."""

from array import array

from checks import equal, run
from contract.wire import REASON_LOAD_FAILED, REASON_SCHEMA_MISMATCH, REASON_SELFTEST_FAILED
from device import detector
from device.detector import Detector, DetectorError, SafeModel


class _Model:
    name = "pump"
    version = "1.0.0"
    sha8 = b"12345678"
    threshold = 10.0
    margin = 1.0
    n_features = 2


def _vectors(*rows):
    features = array("i", (0, 0))
    for first, second, score in rows:
        features[0], features[1] = first, second
        yield features, score


def _refused(code, function, *arguments):
    try:
        function(*arguments)
    except DetectorError as e:
        equal(e.code, code)
        return
    raise AssertionError("not refused")


def _adding(features):
    return float(features[0] + features[1])


def check_a_score_above_the_threshold_is_anomalous():
    model = Detector(_Model, _adding)
    equal(model.score(array("i", (4, 6))), 10.0)
    equal([model.is_anomalous(score) for score in (9.5, 10.0, 10.5)], [False, False, True])
    equal([model.distance(score) for score in (9.5, 10.0, 12.0)], [0.5, 0.0, 2.0])


def check_a_vector_of_another_length_never_reaches_the_model():
    model = Detector(_Model, lambda features: 1 // 0)
    _refused(REASON_SCHEMA_MISMATCH, model.score, array("i", (1,)))
    _refused(REASON_SCHEMA_MISMATCH, model.score, array("i", (1, 2, 3)))


def check_a_score_that_is_no_number_is_an_error():
    model = Detector(_Model, lambda features: float("nan"))
    _refused(REASON_SELFTEST_FAILED, model.score, array("i", (1, 2)))
    try:
        Detector(_Model, lambda features: None).score(array("i", (1, 2)))
    except TypeError:
        return
    raise AssertionError("no score at all is taken for one")


def check_safe_limits_score_by_how_far_they_are_exceeded():
    model = SafeModel(3, ((0, 10, 20), (2, -100, 100)))
    for values, score in (
        ((10, 999, -100), 0.0),
        ((20, -999, 100), 0.0),
        ((21, 0, 0), 0.1),
        ((5, 0, 0), 0.5),
        ((15, 0, 300), 1.0),
        ((5, 0, -500), 2.0),
    ):
        equal(model.score(array("i", values)), score)
        equal(model.is_anomalous(score), score > 0)


def check_safe_limits_that_meet_still_score():
    model = SafeModel(1, ((0, 7, 7),))
    equal([model.score(array("i", (value,))) for value in (6, 7, 9)], [1.0, 0.0, 2.0])


def check_without_limits_nothing_is_anomalous():
    model = SafeModel(1)
    equal(model.is_anomalous(model.score(array("i", (1 << 30,)))), False)


def check_the_self_test_wants_every_score_within_the_tolerance():
    model = Detector(_Model, _adding)
    detector.self_test(model, _vectors((1, 2, 3.0), (4, 5, 9.25)), 0.25)
    _refused(REASON_SELFTEST_FAILED, detector.self_test, model, _vectors((1, 2, 3.0), (4, 5, 9.5)), 0.25)


def check_the_self_test_wants_every_decision_equal():
    model = Detector(_Model, _adding)
    _refused(REASON_SELFTEST_FAILED, detector.self_test, model, _vectors((5, 5, 10.1)), 0.5)


def check_a_folder_without_a_payload_is_a_load_that_failed():
    class Empty:
        folder = staticmethod(lambda slot: "/nowhere")
        module_name = staticmethod(lambda slot: "slot_a")

    class Installed(_Model):
        schema_hash = b"features"
        format = 1

    _refused(REASON_LOAD_FAILED, detector.load, Empty, 0, Installed, b"features", False)


run(globals())
