import pytest

from .app_case import buttons, phone, rows, tap_all, type_into


@pytest.fixture
def alarms():
    return phone("Alarms")


@pytest.fixture
def messages():
    return phone("Messages")


def texts(state, contact):
    return [message["text"] for message in state.get("Messages", "chats", contact, "messages").values()]


def test_a_new_alarm(alarms):
    tap_all(alarms, "new")
    type_into(alarms, "time", "7:30")
    tap_all(alarms, "save")
    assert alarms.toast == "Time must be HH:MM" and alarms.top["screen"] == "alarm"
    type_into(alarms, "time", "07:30")
    tap_all(alarms, "repeat", "choice:2")
    assert [w.detail for w in alarms.screen().body if w.id == "repeat"] == ["Weekdays"]
    tap_all(alarms, "repeat")
    assert [w.text for w in alarms.screen().body if w.detail == "Chosen"] == ["Weekdays"]
    alarms.back()
    tap_all(alarms, "save")
    alarm = {"time": "07:30", "label": "", "repeat": "Weekdays", "sound": "Bells", "on": True}
    assert alarms.get("Alarms", "alarms", "3") == alarm
    assert rows(alarms) == ["06:45", "07:30", "09:00"]


@pytest.mark.parametrize("text", ["24:00", "12:60", "0730", "07:30 ", "０７:３０", "", "x" * 200])
def test_times_that_are_none(alarms, text):
    tap_all(alarms, "alarm:1")
    type_into(alarms, "time", text)
    tap_all(alarms, "save")
    assert alarms.get("Alarms", "alarms", "1", "time") == "06:45"


def test_an_alarm_is_changed(alarms):
    tap_all(alarms, "alarm:1", "sound", "choice:1", "on", "repeat", "choice:0")
    type_into(alarms, "label", "Bus")
    tap_all(alarms, "save")
    alarm = {"time": "06:45", "label": "Bus", "repeat": "Once", "sound": "Birds", "on": False}
    assert alarms.get("Alarms", "alarms", "1") == alarm
    assert alarms.long_press("alarm:1")
    assert buttons(alarms) == ["Turn on", "Delete", "Cancel"]
    tap_all(alarms, "toggle")
    assert alarms.get("Alarms", "alarms", "1", "on") is True
    assert not alarms.long_press("new")


def test_an_alarm_is_deleted_after_a_question(alarms):
    assert alarms.long_press("alarm:2")
    tap_all(alarms, "delete")
    alarms.back()
    assert "2" in alarms.get("Alarms", "alarms")
    tap_all(alarms, "alarm:2", "delete", "delete")
    assert set(alarms.get("Alarms", "alarms")) == {"1"} and alarms.top["screen"] == "main"


def test_clocks_and_options(alarms):
    tap_all(alarms, "tab:clock", "add", "add:Cairo", "add", "add:Cairo")
    assert rows(alarms) == ["Oslo", "Cairo"]
    tap_all(alarms, "city:1", "remove_city")
    assert rows(alarms) == ["Cairo"]
    tap_all(alarms, "tab:main", "options", "snooze", "choice:3")
    assert alarms.get("Alarms", "snooze") == "30 minutes" and alarms.screen().title == "Options"


def test_timers(alarms):
    tap_all(alarms, "tab:timer", "start")
    assert alarms.toast == "Type 1 to 999 minutes"
    for text in ("0", "1000", "-5", "ten", "٣"):
        type_into(alarms, "minutes", text)
        assert alarms.enter()
        assert alarms.get("Alarms", "timers") == {}
    type_into(alarms, "minutes", "25")
    tap_all(alarms, "start")
    assert alarms.get("Alarms", "timers") == {"1": {"minutes": "25"}}
    tap_all(alarms, "timer:1", "stop")
    assert alarms.get("Alarms", "timers") == {}


def test_a_message_is_sent(messages):
    tap_all(messages, "chat:1", "send")
    assert len(texts(messages, "1")) == 2  # an empty one is not
    type_into(messages, "message", "Hi there")
    assert messages.enter() and messages.toast == "Sent"
    assert texts(messages, "1")[-1] == "Hi there"
    assert not messages.field("message")
    assert rows(messages)[-3:] == ["Hi there", "Message", "Send"]


def test_a_chat_is_begun(messages):
    tap_all(messages, "new", "pick:3")
    assert messages.screen().actions == ()
    type_into(messages, "message", "Hello Tom")
    tap_all(messages, "send")
    assert texts(messages, "3") == ["Hello Tom"]
    messages.back()
    assert rows(messages) == ["Anna Berg", "Anna Bergman", "Tom Hill"]


def test_forward_and_delete_a_message(messages):
    tap_all(messages, "chat:1")
    assert messages.long_press("message:1")
    tap_all(messages, "forward", "pick:2")
    assert messages.screen().title == "Anna Berg"
    assert texts(messages, "2")[-1] == "Hello!"
    assert messages.long_press("message:2")
    tap_all(messages, "unsend")
    assert texts(messages, "1") == ["Hello!"]
    assert not messages.long_press("message")


def test_flags_of_a_chat(messages):
    assert messages.long_press("chat:2")
    tap_all(messages, "pinned")
    assert rows(messages) == ["Anna Bergman", "Anna Berg"]
    tap_all(messages, "chat:2", "info", "muted", "archived")
    messages.back()
    messages.back()
    assert rows(messages) == ["Anna Berg"]
    tap_all(messages, "tab:archive")
    assert rows(messages) == ["Anna Bergman"]
    assert messages.screen().body[0].detail == "How are you? (pinned, muted)"
    assert messages.long_press("chat:2")
    assert "Take out of archive" in buttons(messages)


def test_a_chat_is_deleted_from_its_page(messages):
    tap_all(messages, "tab:contacts", "contact:2", "chat", "info", "delete", "delete")
    assert set(messages.get("Messages", "chats")) == {"1"}
    assert messages.screen().title == "Contact"


def test_those_blocked_get_no_messages(messages):
    tap_all(messages, "chat:1", "info", "blocked", "block")
    messages.back()
    type_into(messages, "message", "Hi")
    tap_all(messages, "send")
    assert messages.toast == "This contact is blocked" and len(texts(messages, "1")) == 2
    tap_all(messages, "info", "blocked")
    assert buttons(messages) == ["Unblock", "Cancel"]


def test_contacts(messages):
    tap_all(messages, "tab:contacts", "new")
    type_into(messages, "name", "Zoe")
    tap_all(messages, "save")
    assert messages.toast == "Type name and number"
    type_into(messages, "number", "555 0199")
    tap_all(messages, "save")
    assert rows(messages)[-1] == "Zoe"
    tap_all(messages, "contact:3")
    type_into(messages, "name", "Tom Hills")
    tap_all(messages, "save")
    contact = {"name": "Tom Hills", "number": "555 0103", "blocked": False}
    assert messages.get("Messages", "contacts", "3") == contact


def test_pop_up_of_a_backup(messages):
    messages.set("Messages", "offer_backup", value=True)
    messages.open_app("Messages")
    assert not messages.tap("chat:1")
    tap_all(messages, "cancel", "chat:1")
    assert messages.get("Messages", "backup") is False
    messages.open_app("Messages")
    tap_all(messages, "backup")
    assert messages.get("Messages", "backup") is True
