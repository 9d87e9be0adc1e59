import base64
import os
import stat
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchpoint.auth.secrets import KEY_FILE, SecretBox
from batchpoint.domain.errors import Invalid, Unavailable


def key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def test_what_is_sealed_is_read_again_and_shows_nothing(tmp_path):
    box = SecretBox.open(tmp_path, None)
    sealed = box.seal(b"hunter2", "datastore lake")
    assert "hunter2" not in sealed
    assert base64.b64encode(b"hunter2").decode() not in sealed
    assert box.open_sealed(sealed, "datastore lake") == b"hunter2"
    assert SecretBox.open(tmp_path, None).open_sealed(sealed, "datastore lake") == b"hunter2"
    assert sealed != box.seal(b"hunter2", "datastore lake")


@given(st.binary(max_size=300), st.text(max_size=30))
def test_any_secret_about_anything(plain, about):
    from pathlib import Path

    box = SecretBox.open(Path("/nowhere"), "00" * 32)
    assert box.open_sealed(box.seal(plain, about), about) == plain


def test_the_key_is_made_when_it_is_needed_for_its_user_alone(tmp_path):
    box = SecretBox.open(tmp_path / "home", None)
    assert not (tmp_path / "home").exists()
    box.seal(b"x", "a")
    file = tmp_path / "home" / KEY_FILE
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [each.name for each in file.parent.iterdir()] == [KEY_FILE]


def test_many_that_make_the_key_at_once_agree_on_one(tmp_path):
    start = threading.Barrier(8)
    sealed: list[str] = []

    def seal() -> None:
        box = SecretBox.open(tmp_path, None)
        start.wait()
        sealed.append(box.seal(b"x", "a"))

    threads = [threading.Thread(target=seal) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    box = SecretBox.open(tmp_path, None)
    assert [box.open_sealed(text, "a") for text in sealed] == [b"x"] * 8
    assert [each.name for each in tmp_path.iterdir()] == [KEY_FILE]


def test_after_a_rotation_old_secrets_are_read_and_new_ones_sealed_anew(tmp_path):
    old, new = key(), key()
    before = SecretBox.open(tmp_path, old).seal(b"x", "a")
    both = SecretBox.open(tmp_path, f"{new} {old}")
    assert both.open_sealed(before, "a") == b"x"
    after = both.seal(b"y", "a")
    assert SecretBox.open(tmp_path, new).open_sealed(after, "a") == b"y"
    with pytest.raises(Unavailable, match="not in"):
        SecretBox.open(tmp_path, new).open_sealed(before, "a")


def test_a_new_key_on_top_of_the_file_is_used_by_a_box_that_is_open(tmp_path):
    box = SecretBox.open(tmp_path, None)
    before = box.seal(b"x", "a")
    file = tmp_path / KEY_FILE
    file.write_text(key() + "\n" + file.read_text())
    after = box.seal(b"x", "a")
    assert after.split(".")[1] != before.split(".")[1]
    assert box.open_sealed(before, "a") == box.open_sealed(after, "a") == b"x"


def test_a_key_from_the_settings_wins_and_the_file_still_opens_its_own(tmp_path):
    before = SecretBox.open(tmp_path, None).seal(b"x", "a")
    box = SecretBox.open(tmp_path, key())
    assert box.open_sealed(before, "a") == b"x"
    assert box.seal(b"x", "a").split(".")[1] != before.split(".")[1]


@pytest.mark.parametrize("place", range(4))
def test_what_somebody_changed_is_refused(tmp_path, place):
    box = SecretBox.open(tmp_path, None)
    parts = box.seal(b"hunter2", "a").split(".")
    parts[place] = ("X" if parts[place][0] != "X" else "Y") + parts[place][1:]
    with pytest.raises(Unavailable) as caught:
        box.open_sealed(".".join(parts), "a")
    assert caught.value.code == "secrets_unreadable"
    assert "hunter2" not in str(caught.value)


def test_a_secret_moved_to_another_row_is_refused(tmp_path):
    box = SecretBox.open(tmp_path, None)
    with pytest.raises(Unavailable, match="belong to something else"):
        box.open_sealed(box.seal(b"x", "datastore mine"), "datastore theirs")


@pytest.mark.parametrize("text", ["", "a.b", "bp1.a.b", "bp1.k.ä.ö"])
def test_what_was_never_sealed_is_refused(tmp_path, text):
    with pytest.raises(Unavailable) as caught:
        SecretBox.open(tmp_path, key()).open_sealed(text, "a")
    assert caught.value.code == "secrets_unreadable"


def test_a_lost_key_is_told_and_no_new_one_is_made(tmp_path):
    box = SecretBox.open(tmp_path, None)
    sealed = box.seal(b"x", "datastore lake")
    (tmp_path / KEY_FILE).unlink()
    with pytest.raises(Unavailable, match=r"datastore lake.*restore the key"):
        box.open_sealed(sealed, "datastore lake")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_key_file_is_told_and_not_replaced(tmp_path):
    (tmp_path / KEY_FILE).write_text("nonsense\n")
    with pytest.raises(Unavailable, match="holds no keys"):
        SecretBox.open(tmp_path, None).seal(b"x", "a")
    assert (tmp_path / KEY_FILE).read_text() == "nonsense\n"


@pytest.mark.parametrize("text", ["short", key()[:-8], key() + " nonsense", "zz" * 32])
def test_a_key_that_is_none_is_refused_and_not_repeated(tmp_path, text):
    with pytest.raises(Invalid) as caught:
        SecretBox.open(tmp_path, text)
    assert caught.value.code == "settings_invalid"
    assert text not in str(caught.value)


def test_nothing_of_the_key_is_shown(tmp_path):
    text = key()
    assert text not in repr(SecretBox.open(tmp_path, text))
