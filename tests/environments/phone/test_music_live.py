import random

import pytest

from trl_multiturn.environments.phone.oracle import Oracle, Step, apply
from trl_multiturn.environments.phone.task_templates import live as live_tasks
from trl_multiturn.environments.phone.task_templates import music as music_tasks

from .app_case import phone, shown


class TestMusic:
    def test_a_tap_plays_and_holding_opens_a_menu(self):
        state = phone("Music")
        assert state.long_press("song:s2")
        assert state.get("Music", "playing") == "" and state.popup is not None
        state.tap("like")
        assert state.get("Music", "liked") == {"s2": True}
        state.tap("song:s2")
        assert state.get("Music", "playing") == "s2" and state.screen().title == "Playing"
        state.tap("like")
        state.tap("stop")
        assert state.get("Music", "liked") == {} and state.screen().title == "Stopped"

    def test_only_songs_can_be_held(self):
        state = phone("Music")
        assert not state.long_press("tab:lists")
        state.tap("tab:lists")
        assert not state.long_press("list:l1")

    def test_a_song_is_added_to_a_playlist_and_taken_out(self):
        state = phone("Music")
        state.long_press("song:s3")
        state.tap("add")
        state.tap("into:l2")
        assert state.get("Music", "lists", "l2", "songs") == {"s3": True}
        assert state.top["screen"] == "main"
        state.tap("tab:lists")
        state.tap("list:l2")
        state.long_press("song:s3")
        state.tap("take")
        assert state.get("Music", "lists", "l2", "songs") == {}

    def test_there_is_nothing_to_take_out_of_all_songs(self):
        state = phone("Music")
        state.long_press("song:s1")
        assert [button.id for button in state.screen().popup.buttons] == ["like", "add", "close"]

    @pytest.mark.parametrize("name", ["", "   ", "Morning Run"])
    def test_a_playlist_needs_a_name_of_its_own(self, name):
        state = phone("Music")
        state.tap("tab:lists")
        before = state.data
        state.tap("new")
        state.tap("name")
        state.type_text(name)
        state.tap("keep")
        assert state.toast and state.data is before and state.top["screen"] == "name"

    def test_a_playlist_is_made_renamed_and_deleted(self):
        state = phone("Music")
        state.tap("tab:lists")
        state.tap("new")
        state.tap("name")
        state.type_text("Focus")
        assert state.enter()
        assert state.get("Music", "lists", "new-Focus") == {"name": "Focus", "songs": {}}
        state.tap("list:new-Focus")
        state.tap("rename")
        state.tap("name")
        assert state.field("name") == "Focus"
        state.type_text("Focus 2")
        state.tap("keep")
        assert state.get("Music", "lists", "new-Focus", "name") == "Focus 2"
        state.tap("delete")
        state.tap("close")
        state.tap("delete")
        state.tap("delete")
        assert state.get("Music", "lists", "new-Focus") is None

    def test_the_timer_shows_what_was_chosen(self):
        state = phone("Music")
        for widget in ("tab:more", "timer", "time:45 minutes"):
            assert state.tap(widget)
        assert state.screen().body[0].detail == "45 minutes"

    def test_playing_the_wrong_song_is_a_side_effect_of_taking_one_off(self):
        task = music_tasks.unlike(random.Random(0))
        song = next(iter(task.initial_state().get("Music", "songs")))
        state = apply(apply(task.initial_state(), Step("open", "Music")), Step("tap", f"song:{song}"))
        assert task.side_effects(state) == ["Music.playing"]

    def test_half_of_the_songs_are_out_of_sight(self):
        state = apply(music_tasks.play(random.Random(0)).initial_state(), Step("open", "Music"))
        last = shown(state)[-1]
        assert not state.tap(last)
        state.scroll_by(10_000)
        assert state.tap(last)


class TestLive:
    def test_sections_of_a_category(self):
        state = phone("Live")
        state.tap("category:Hotel packages")
        assert shown(state) == ["stream:v1", "stream:v2", "stream:v3"]
        state.tap("tab:new")
        assert shown(state) == ["empty"] and state.top["params"]["category"] == "Hotel packages"

    def test_following_is_undone_after_a_question(self):
        state = phone("Live")
        for widget in ("category:Hotel packages", "stream:v2", "follow"):
            assert state.tap(widget)
        assert state.get("Live", "following") == {"v2": True}
        state.tap("follow")
        state.tap("close")
        assert state.get("Live", "following") == {"v2": True}
        state.tap("follow")
        state.tap("unfollow")
        assert state.get("Live", "following") == {}

    def test_gifts_cost_coins_as_long_as_there_are_some(self):
        state = phone("Live", coins=15)
        state.tap("category:Hotel packages")
        state.tap("stream:v1")
        for gift in ("Rocket", "Cake", "Cake"):
            state.tap("gift")
            state.tap(f"send:{gift}")
        assert state.get("Live", "gifts") == {"v1:Cake": 1}
        assert state.get("Live", "coins") == 5 and state.toast

    def test_hosts_are_found_by_name_and_those_not_live_have_a_page(self):
        state = phone("Live")
        state.set("Live", "hosts", "v3", "section", value="")
        state.tap("find")
        state.tap("go")
        assert state.top["screen"] == "find"
        state.tap("name")
        state.type_text("travels")
        state.tap("go")
        assert shown(state) == ["stream:v1", "stream:v3"]
        state.tap("stream:v3")
        assert state.top["screen"] == "host"
        state.back()
        state.tap("stream:v1")
        assert state.top["screen"] == "stream"

    def test_blocking_asks_and_unblocking_does_not(self):
        state = phone("Live", following={"v1": True})
        state.tap("tab:following")
        state.tap("stream:v1")
        state.tap("block")
        assert state.get("Live", "blocked") == {}
        state.tap("block")
        assert state.get("Live", "blocked") == {"v1": True}
        state.tap("block")
        assert state.get("Live", "blocked") == {} and state.popup is None

    def test_the_notice_leads_astray(self):
        state = phone("Live", notice=True)
        assert not state.tap("tab:me")
        state.tap("wallet")
        assert state.top["screen"] == "coins"

    def test_the_one_super_vip_of_a_section_is_meant(self):
        for seed in range(20):
            hosts = live_tasks._Hosts(random.Random(seed))
            here = [
                h for h in hosts.hosts.values() if (h["category"], h["section"]) == (hosts.category, hosts.section)
            ]
            assert [h["level"] for h in here].count("Super VIP") == 1
            assert hosts.hosts[hosts.top()]["level"] == "Super VIP" and hosts.hosts[hosts.top()] in here
            assert hosts.hosts[hosts.most_watched()]["viewers"] == max(h["viewers"] for h in here)

    def test_a_gift_on_the_way_is_a_side_effect(self):
        task = live_tasks.follow_vip(random.Random(1))
        state, steps = task.initial_state(), Oracle(task).solve(task.initial_state())
        for step in steps:
            state = apply(state, step)
        assert task.is_done(state) and not task.side_effects(state)
        state = apply(apply(state, Step("tap", "gift")), Step("tap", "send:Rose"))
        gift = next(iter(state.get("Live", "gifts")))
        assert task.side_effects(state) == ["Live.coins", f"Live.gifts.{gift}"]
