"""An artifact is written only when the compiled model decides as scikit-learn does, and holds the proof."""

import dataclasses
import json
import shutil
import struct
from array import array
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from sklearn.covariance import EllipticEnvelope, EmpiricalCovariance

from contract import artifact
from model_export import adversarial, convert, package, parity, runtime, sign
from model_export import compile as compiler
from model_export.errors import ModelError
from model_export.model import Model
from model_export.package import Release
from model_export.train import Plan, train
from model_export.windows import compute, parse_schema
from tests.model_export.conftest import make_series

RELEASE = Release("1.2.3", 1002003, 1_700_000_000)


@pytest.fixture(scope="module")
def exported(water_flow, key, native_toolchain):
    return package.export_native(water_flow, "x64", RELEASE, key)


def test_the_artifact_is_whole_signed_and_refers_to_its_card(exported, key, water_flow):
    head, manifest, golden, payload = artifact.split(exported.artifact)
    assert head.key_id == key.key_id
    assert sign.verify(key.public, head.digest, head.signature)
    assert (manifest.name, manifest.version, manifest.sequence) == ("water-flow", "1.2.3", 1002003)
    assert (manifest.arch, manifest.abi, manifest.format) == ("x64", 1539, "native")
    assert manifest.schema == water_flow.card["schema"]
    assert manifest.threshold == water_flow.threshold
    assert manifest.card_sha256 == sha256(exported.card).digest()
    assert len(golden) == manifest.golden_count * artifact.golden_row_bytes(6)
    assert payload[:2] == b"M\x06"


def test_a_release_for_the_shadow_is_signed_as_one(water_flow, key, native_toolchain):
    release = dataclasses.replace(RELEASE, role=artifact.CLASS_SHADOW)
    head, manifest, _, _ = artifact.split(package.export_native(water_flow, "x64", release, key).artifact)
    assert manifest.artifact_class == artifact.CLASS_SHADOW
    assert sign.verify(key.public, head.digest, head.signature)


def test_the_same_model_release_and_key_give_the_same_bytes(exported, water_flow, key):
    again = package.export_native(water_flow, "x64", RELEASE, key)
    assert again.artifact == exported.artifact
    assert again.card == exported.card


def test_the_payload_gives_the_golden_scores_within_the_tolerance(exported):
    _, manifest, golden, payload = artifact.split(exported.artifact)
    features = array("i", [0] * manifest.n_features)
    size = artifact.golden_row_bytes(manifest.n_features)
    rows = [golden[i : i + size] for i in range(0, len(golden), size)]
    expected = np.array([artifact.golden_into(row, features) for row in rows])
    points = np.array([struct.unpack(f"<{manifest.n_features}i", row[:-4]) for row in rows], dtype=np.int32)
    scores = parity.native_scores(payload, points)
    assert np.abs(scores - expected).max() <= manifest.tolerance
    assert np.array_equal(scores > manifest.threshold, expected > manifest.threshold)
    assert 0 < (expected > manifest.threshold).sum() < len(rows)


def test_golden_scores_are_what_scikit_learn_gives(exported, water_flow):
    for features, score in package.golden_vectors(water_flow):
        reference = float(water_flow.scores(np.array([features]))[0])
        assert score == pytest.approx(reference, rel=1e-6)
        assert (score > water_flow.threshold) == (reference > water_flow.threshold)


def test_the_card_of_an_export_holds_the_outcome_of_the_parity_check(exported):
    outcome = json.loads(exported.card)["export"]["parity"]
    assert outcome["points"] > 4000
    assert outcome["decisions_differing"] == 0


def test_decisions_equal_scikit_learn_s_on_100_000_points_where_they_turn(water_flow, native_toolchain):
    mpy = compiler.native_module(convert.c_source(water_flow), "x64")
    points = parity.points_for(water_flow, 100_000)
    outcome = parity.compare(water_flow, points, parity.native_scores(mpy, points))
    assert outcome.points > 100_000
    assert outcome.decisions_differing == 0
    assert outcome.largest_relative_difference < 1e-4


def test_without_the_double_precision_band_the_same_points_find_differences(water_flow, native_toolchain):
    source = convert.c_source(water_flow).replace("if (ew_in_doubt(", "if (0 && ew_in_doubt(")
    points = parity.points_for(water_flow, 100_000)
    outcome = parity.compare(water_flow, points, parity.native_scores(compiler.native_module(source, "x64"), points))
    assert outcome.decisions_differing > 0
    with pytest.raises(ModelError) as caught:
        parity.require(outcome, water_flow)
    assert caught.value.code == "parity"


def test_adversarial_points_are_neighbours_on_both_sides(water_flow):
    points = adversarial.points(water_flow.scores, water_flow.threshold, water_flow.train, 200)
    low, high = points[:100].astype(np.int64), points[100:200].astype(np.int64)
    assert np.abs(high - low).max() <= 1
    assert (water_flow.scores(low) <= water_flow.threshold).all()
    assert (water_flow.scores(high) > water_flow.threshold).all()


def test_a_model_of_one_feature_is_exported(key, native_toolchain):
    trained = train(make_series(channels=1), Plan("m", "v1;w=1;c=a::100;f=last"))
    done = package.export_native(trained, "x64", RELEASE, key)
    assert done.parity.decisions_differing == 0
    assert artifact.split(done.artifact)[1].n_features == 1


def test_a_model_of_128_features_is_exported(key, native_toolchain):
    narrow = train(make_series(channels=1), Plan("m", "v1;w=1;c=a::100;f=last"))
    series = make_series(rows=1500, channels=16)
    schema = f"v1;w=8;c={','.join(f'c{i}::100' for i in range(16))};f=mean,var,min,max,ld,zc,md,ld2"
    vectors = compute(series, parse_schema(schema)).features
    # FastMCD takes half a minute on 128 features; the plain covariance is as good a matrix to compile.
    estimator = EllipticEnvelope()
    vars(estimator).update(vars(EmpiricalCovariance().fit(vectors)))
    limit = float(np.float32(np.quantile(-estimator.score_samples(vectors), 0.99)))
    wide = Model(estimator, vectors[:800], vectors[800:], narrow.card | {"schema": schema, "threshold": limit})
    done = package.export_native(wide, "x64", RELEASE, key)
    assert done.parity.decisions_differing == 0
    assert artifact.split(done.artifact)[1].n_features == 128


def test_features_that_determine_each_other_are_refused(key, native_toolchain):
    trained = train(make_series(channels=1), Plan("m", "v1;w=2;c=a::100;f=mean,min,max,pp,last"))
    with pytest.raises(ModelError, match="determine each other"):
        package.export_native(trained, "x64", RELEASE, key)


def test_a_missing_compiler_or_source_is_named_with_how_to_get_it(monkeypatch, tmp_path: Path, water_flow, key):
    with pytest.raises(ModelError, match="choose one of x64") as caught:
        package.export_native(water_flow, "z80", RELEASE, key)
    assert caught.value.code == "unsupported"
    if not shutil.which("xtensa-esp32-elf-gcc"):
        with pytest.raises(ModelError, match="it comes with ESP-IDF") as caught:
            package.export_native(water_flow, "xtensawin", RELEASE, key)
        assert caught.value.code == "no-compiler"
    monkeypatch.setenv("MPY_DIR", str(tmp_path))
    with pytest.raises(ModelError, match="run `make setup`") as caught:
        compiler.micropython_dir()
    assert caught.value.code == "no-source"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelError, match="apt-get install gcc make") as caught:
        package.export_native(water_flow, "x64", RELEASE, key)
    assert caught.value.code == "no-compiler"


def test_a_compiler_error_is_shown(native_toolchain):
    with pytest.raises(ModelError, match="no_such_type") as caught:
        compiler.native_module("no_such_type x;", "x64")
    assert caught.value.code == "build-failed"


def test_a_sequence_follows_from_the_version():
    assert package.default_sequence("1.2.3") == 1002003
    assert package.default_sequence("2.0.0-rc.1") == 2000000
    for bad in ("1.2", "one", "1.1000.0"):
        with pytest.raises(ModelError):
            package.default_sequence(bad)


def test_a_name_no_manifest_can_hold_is_refused(water_flow, key, native_toolchain):
    odd = dataclasses.replace(water_flow, card=water_flow.card | {"name": "x" * 49})
    with pytest.raises(ModelError, match="name"):
        package.export_native(odd, "x64", RELEASE, key)


def test_what_takes_too_long_ends_with_what_to_do(monkeypatch, tmp_path: Path, native_toolchain):
    monkeypatch.setattr(runtime, "DEADLINE_S", 0.2)
    with pytest.raises(ModelError, match=r"has not scored its windows under MicroPython in 0\.2 s"):
        runtime.run("while True: pass", [], tmp_path)
    monkeypatch.setattr(compiler, "DEADLINE_S", 0.01)
    with pytest.raises(ModelError, match=r"was not built in 0\.01 s"):
        compiler.native_module("", "x64")
