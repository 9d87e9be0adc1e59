"""Resources: replaced as a whole, versions numbered in order, listed in pages."""

from pathlib import Path

from batchpoint.ledger.ledger import ANONYMOUS, Ledger


def test_things_are_created_then_replaced(ledger: Ledger) -> None:
    assert ledger.put_resource("compute", "cpu", "one", now=1.0)
    assert not ledger.put_resource("compute", "cpu", "two", now=2.0)
    record = ledger.get_resource("compute", "cpu")
    assert record is not None
    assert (record.document, record.created_at, record.updated_at) == ("two", 1.0, 2.0)
    assert ledger.get_resource("endpoint", "cpu") is None


def test_a_deployment_belongs_to_its_endpoint(ledger: Ledger) -> None:
    ledger.put_resource("deployment", "d", "of a", scope="a", resolution="r", now=1.0)
    ledger.put_resource("deployment", "d", "of b", scope="b", now=1.0)
    found = ledger.get_resource("deployment", "d", scope="a")
    assert found is not None
    assert (found.document, found.resolution) == ("of a", "r")
    assert ledger.delete_scope("deployment", "a") == 1
    assert ledger.get_resource("deployment", "d", scope="a") is None
    assert ledger.get_resource("deployment", "d", scope="b") is not None


def add(ledger: Ledger, name: str, version: str | None, content: str = "c") -> str:
    return ledger.add_version(
        "model", name, version, lambda given: f"{name} {given}", content_hash=content, now=1.0
    ).version


def test_versions_are_numbered_after_the_highest(ledger: Ledger) -> None:
    assert add(ledger, "m", None) == "1"
    assert add(ledger, "m", "7") == "7"
    assert add(ledger, "m", "beta") == "beta"
    assert add(ledger, "m", None) == "8"
    assert add(ledger, "n", None) == "1"
    latest = ledger.latest_resource("model", "m")
    assert latest is not None
    assert latest.document == "m 8"
    assert [r.version for r in ledger.list_versions("model", "m", limit=3)] == ["8", "beta", "7"]
    after = ledger.list_versions("model", "m", limit=3, after="beta")
    assert [record.version for record in after] == ["7", "1"]


def test_lists_show_the_newest_version_of_each_name_in_pages(ledger: Ledger) -> None:
    for name in ("c", "a", "b"):
        add(ledger, name, None)
        add(ledger, name, None)
    add(ledger, ANONYMOUS, "f" * 64)
    first = ledger.list_resources("model", limit=2)
    assert [(record.name, record.version) for record in first] == [("a", "2"), ("b", "2")]
    rest = ledger.list_resources("model", limit=2, after="b")
    assert [record.name for record in rest] == ["c"]


def test_deleting_tells_how_much_was_there(ledger: Ledger) -> None:
    add(ledger, "m", None)
    add(ledger, "m", None)
    assert ledger.delete_resource("model", "m", version="1") == 1
    assert ledger.delete_resource("model", "m") == 1
    assert ledger.delete_resource("model", "m") == 0


def test_archived_versions_are_found_by_their_number_only(ledger: Ledger) -> None:
    for _ in range(3):
        add(ledger, "m", None)
    assert ledger.archive("model", "m", "3", archived=True) == 1
    latest = ledger.latest_resource("model", "m")
    assert latest is not None
    assert latest.version == "2"
    kept = ledger.get_resource("model", "m", version="3")
    assert kept is not None
    assert kept.archived
    assert [r.version for r in ledger.list_versions("model", "m", limit=9)] == ["2", "1"]
    everything = ledger.list_versions("model", "m", limit=9, include_archived=True)
    assert [(r.version, r.archived) for r in everything] == [
        ("3", True),
        ("2", False),
        ("1", False),
    ]
    assert [r.version for r in ledger.list_resources("model", limit=9)] == ["2"]
    assert ledger.archive("model", "m", None, archived=True) == 3
    assert ledger.latest_resource("model", "m") is None
    assert ledger.list_resources("model", limit=9) == []
    found = ledger.list_resources("model", limit=9, include_archived=True)
    assert [r.version for r in found] == ["3"]
    assert add(ledger, "m", None) == "4"
    assert ledger.archive("model", "m", None, archived=False) == 4
    assert ledger.archive("model", "ghost", None, archived=True) == 0


def test_a_ledger_of_the_first_version_learns_to_archive(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "old.db")
    add(ledger, "m", None)
    with ledger.writing() as connection:
        connection.exec_driver_sql("ALTER TABLE resources DROP COLUMN archived")
        connection.exec_driver_sql("UPDATE schema_version SET version = 1")
    ledger.close()
    opened = Ledger(tmp_path / "old.db")
    found = opened.get_resource("model", "m", version="1")
    assert found is not None
    assert found.archived is False
    assert opened.archive("model", "m", "1", archived=True) == 1
    opened.close()
