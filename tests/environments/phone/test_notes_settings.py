import pytest

from trl_multiturn.environments.phone.apps.settings_pages import PAGES, SETTINGS

from .app_case import buttons, phone, rows, tap_all, type_into


@pytest.fixture
def notes():
    return phone("Notes")


@pytest.fixture
def phone_settings():
    return phone("Settings")


def test_a_note_is_written(notes):
    tap_all(notes, "new")
    type_into(notes, "text", "Buy glue")
    tap_all(notes, "save")
    assert notes.toast == "Type a title" and notes.top["screen"] == "note"
    type_into(notes, "title", "Glue")
    tap_all(notes, "save")
    assert notes.get("Notes", "notes", "4") == {"title": "Glue", "text": "Buy glue", "folder": "Home", "pinned": False}
    assert rows(notes)[0] == "Glue" and notes.toast == "Saved"


def test_text_that_is_not_saved_is_lost(notes):
    tap_all(notes, "note:1")
    type_into(notes, "title", "Other")
    assert [w.value for w in notes.screen().body if w.kind == "field"] == ["Other", "Milk, bread, tea"]
    notes.back()
    assert notes.get("Notes", "notes", "1", "title") == "Groceries"


def test_order_of_notes(notes):
    assert rows(notes) == ["Meeting", "Ideas", "Groceries"]
    tap_all(notes, "sort")
    assert buttons(notes) == ["Newest first", "Oldest first", "By title", "Cancel"]
    tap_all(notes, "order:2")
    assert rows(notes) == ["Groceries", "Ideas", "Meeting"]
    tap_all(notes, "note:3", "pinned")
    notes.back()
    assert rows(notes) == ["Meeting", "Groceries", "Ideas"]


def test_a_deleted_note_lies_in_the_bin(notes):
    assert notes.long_press("note:2")
    tap_all(notes, "delete")
    assert notes.screen().popup.title == "Delete this note?"
    tap_all(notes, "cancel")
    assert notes.get("Notes", "notes", "2") is not None
    tap_all(notes, "note:2", "delete", "delete")
    assert notes.get("Notes", "notes", "2") is None and notes.top["screen"] == "main"
    tap_all(notes, "tab:bin", "note:2", "restore", "tab:main")
    assert "Ideas" in rows(notes)
    assert notes.get("Notes", "bin") == {}


def test_ids_of_deleted_notes_stay_taken(notes):
    tap_all(notes, "note:3", "delete", "delete", "new")
    type_into(notes, "title", "New")
    tap_all(notes, "save", "tab:bin", "note:3", "restore")
    assert set(notes.get("Notes", "notes")) == {"1", "2", "3", "4"}


def test_the_bin_is_emptied(notes):
    tap_all(notes, "note:3", "delete", "delete", "tab:bin", "note:3", "erase")
    assert rows(notes) == []
    tap_all(notes, "tab:main", "note:2", "delete", "delete", "tab:bin", "empty", "empty")
    assert notes.get("Notes", "bin") == {} and set(notes.get("Notes", "notes")) == {"1"}


def test_folders(notes):
    tap_all(notes, "tab:folders", "new")
    type_into(notes, "name", "Home")
    assert notes.enter() and notes.toast == "This folder exists"
    type_into(notes, "name", "")
    tap_all(notes, "save")
    assert notes.toast == "Type a name"
    type_into(notes, "name", "Sport")
    assert notes.enter()
    assert rows(notes) == ["Home", "Work", "Sport"]
    tap_all(notes, "tab:main")
    assert notes.long_press("note:1")
    tap_all(notes, "move", "folder:3")
    assert notes.get("Notes", "notes", "1", "folder") == "Sport" and notes.toast == "Moved to Sport"
    tap_all(notes, "tab:folders", "folder:3")
    assert rows(notes) == ["Groceries"]
    tap_all(notes, "new")
    type_into(notes, "title", "Run")
    tap_all(notes, "save")
    assert rows(notes) == ["Run", "Groceries"]


def test_pages_are_reached_from_above(phone_settings):
    for page in PAGES.values():
        phone_settings.open_app("Settings")
        for name in ([page.parent] if page.parent != "main" else []) + [page.name]:
            if not phone_settings.tap(f"page:{name}"):
                assert phone_settings.scroll_by(600)
                tap_all(phone_settings, f"page:{name}")
        assert phone_settings.screen().title == page.label
    assert {setting.page for setting in SETTINGS.values()} <= set(PAGES)
    for setting in SETTINGS.values():
        assert setting.start in setting.options if setting.options else isinstance(setting.start, bool)


def test_switches_and_choices(phone_settings):
    tap_all(phone_settings, "page:display", "setting:dark", "setting:timeout", "choice:2")
    values = phone_settings.get("Settings", "values")
    assert values["dark"] is True and values["timeout"] == "5 minutes"
    assert phone_settings.screen().title == "Display"
    assert next(w for w in phone_settings.screen().body if w.id == "setting:timeout").detail == "5 minutes"


def test_some_switches_ask_first(phone_settings):
    tap_all(phone_settings, "page:mobile", "setting:aeroplane")
    assert phone_settings.screen().popup.title == "Turn on Aeroplane mode?"
    tap_all(phone_settings, "cancel")
    assert phone_settings.get("Settings", "values", "aeroplane") is False
    tap_all(phone_settings, "setting:aeroplane", "yes")
    assert phone_settings.get("Settings", "values", "aeroplane") is True
    tap_all(phone_settings, "setting:aeroplane")  # off without a question
    assert phone_settings.get("Settings", "values", "aeroplane") is False


def test_networks(phone_settings):
    tap_all(phone_settings, "page:wifi", "network:3")
    type_into(phone_settings, "password", "Espresso")
    assert phone_settings.enter() and phone_settings.toast == "Wrong password"
    type_into(phone_settings, "password", "espresso")
    tap_all(phone_settings, "join")
    assert phone_settings.get("Settings", "network") == "3" and phone_settings.toast == "Connected"
    tap_all(phone_settings, "network:2")
    assert buttons(phone_settings) == ["Connect", "Forget", "Cancel"]
    tap_all(phone_settings, "connect", "network:2", "forget")
    assert phone_settings.get("Settings", "network") == ""
    tap_all(phone_settings, "setting:wifi")
    assert not any(text.startswith("Home") for text in rows(phone_settings))


def test_devices_are_seen_with_bluetooth_on(phone_settings):
    tap_all(phone_settings, "page:bluetooth")
    assert not phone_settings.tap("device:1")
    tap_all(phone_settings, "setting:bluetooth", "device:1", "pair", "device:2")
    assert buttons(phone_settings) == ["Unpair", "Cancel"]
    tap_all(phone_settings, "pair")
    devices = phone_settings.get("Settings", "devices")
    assert devices["1"]["paired"] and not devices["2"]["paired"]


def test_name_of_the_phone(phone_settings):
    phone_settings.scroll_by(600)
    tap_all(phone_settings, "page:about", "save")
    assert phone_settings.get("Settings", "phone_name") == "My phone"
    type_into(phone_settings, "phone_name", "")
    tap_all(phone_settings, "save")
    assert phone_settings.toast == "Type a name"
    type_into(phone_settings, "phone_name", "Mine")
    assert phone_settings.enter()
    assert phone_settings.get("Settings", "phone_name") == "Mine"


def test_pop_up_of_a_low_battery_and_reset(phone_settings):
    phone_settings.set("Settings", "low_battery", value=True)
    phone_settings.open_app("Settings")
    assert not phone_settings.tap("page:wifi")
    tap_all(phone_settings, "cancel")
    assert phone_settings.get("Settings", "values", "saver") is False
    phone_settings.open_app("Settings")
    tap_all(phone_settings, "saver")
    assert phone_settings.get("Settings", "values", "saver") is True
    phone_settings.scroll_by(600)
    tap_all(phone_settings, "page:system", "reset", "reset")
    assert phone_settings.get("Settings", "values", "saver") is False
