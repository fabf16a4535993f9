"""What the critic sees: states blind to what follows, the same values in any company, windows, heads."""

import pytest
import torch
from transformers import RobertaConfig, RobertaModel

from tests.archer.tiny import save_encoder
from tests.tiny import build_model, build_tokenizer
from trl_multiturn import ArCHerConfig
from trl_multiturn.archer.backbones import build_critic
from trl_multiturn.archer.buffer import Trajectory
from trl_multiturn.archer.critic import CausalCritic, PairCritic, _windows
from trl_multiturn.archer.values import HLGaussHead, RegressionHead


def arguments(tmp_path, **overrides) -> ArCHerConfig:
    return ArCHerConfig(str(tmp_path), use_cpu=True, bf16=False, report_to=[], **overrides)


def episode(seed: int, num_turns: int = 3, prompt: int = 5, vocabulary: int = 500) -> Trajectory:
    generator = torch.Generator().manual_seed(seed)
    spans, position = [], prompt
    for _ in range(num_turns):
        said, answered = torch.randint(1, 5, (2,), generator=generator).tolist()
        spans.append([position, position + said, position + said + answered])
        position += said + answered
    tokens = torch.randint(3, vocabulary, (position,), generator=generator, dtype=torch.int32)
    rewards = torch.randn(num_turns, generator=generator)
    return Trajectory(tokens, torch.tensor(spans, dtype=torch.int32), rewards, True, False, 0)


def awake(critic):
    """Heads start at 0; give them something to say."""
    torch.manual_seed(1)
    for head in [*critic.q_heads, *critic.v_heads]:
        torch.nn.init.normal_(head.layers[-1].weight)
    return critic


@pytest.fixture
def critic(tmp_path):
    return awake(build_critic(arguments(tmp_path), build_model(), build_tokenizer()))


def values(critic, trajectories):
    with torch.no_grad():
        return critic.values(critic(trajectories))


def test_starts_without_an_opinion(tmp_path):
    critic = build_critic(arguments(tmp_path), build_model(), build_tokenizer())
    found = values(critic, [episode(0)])
    assert all(value.abs().max() == 0 for value in vars(found).values())
    assert not critic.training


def test_states_do_not_see_what_is_said_next(critic):
    original = episode(0)
    for turn in range(3):
        start, end, context_end = original.turns[turn].tolist()
        tokens = original.tokens.clone()
        tokens[start:end] = (tokens[start:end] + 7) % 500
        found, changed = (
            values(critic, [original]),
            values(critic, [Trajectory(tokens, original.turns, original.rewards, True, False, 0)]),
        )
        assert torch.equal(found.v1[: turn + 1], changed.v1[: turn + 1])
        assert torch.equal(found.q1[:turn], changed.q1[:turn])
        assert not torch.isclose(found.q1[turn], changed.q1[turn])
        assert not torch.isclose(found.next_v1[turn], changed.next_v1[turn])
        # What the environment answers is the next state's, not the utterance's.
        tokens = original.tokens.clone()
        tokens[end:context_end] = (tokens[end:context_end] + 7) % 500
        answered = values(critic, [Trajectory(tokens, original.turns, original.rewards, True, False, 0)])
        assert torch.equal(found.q1[: turn + 1], answered.q1[: turn + 1])
        assert not torch.isclose(found.next_v1[turn], answered.next_v1[turn])


def test_next_state_is_the_next_turns_state(critic):
    found = values(critic, [episode(0), episode(1, num_turns=2)])
    assert torch.equal(found.next_v1[[0, 1, 3]], found.v1[[1, 2, 4]])


def test_independent_of_batch_partners(critic):
    episodes = [episode(seed, num_turns=1 + seed % 4, prompt=3 + 4 * seed) for seed in range(5)]
    together = values(critic, episodes)
    alone = [values(critic, [e]) for e in episodes]
    for name, value in vars(together).items():
        torch.testing.assert_close(value, torch.cat([getattr(a, name) for a in alone]), atol=1e-5, rtol=1e-5)


class TestWindows:
    def test_each_turn_once_and_within_the_limit(self):
        trajectory = episode(0, num_turns=12)
        seen_states, seen_turns = [], []
        for start, end, states, turns in _windows(trajectory, 20):
            assert end - start <= 20
            assert all(start <= position < end for position in states + turns)
            assert start == 0 or start in trajectory.turns[:, 0] or start == states[0]
            seen_states += states
            seen_turns += turns
        assert seen_turns == (trajectory.turns[:, 1] - 1).tolist()
        assert seen_states == [*(trajectory.turns[:, 0] - 1).tolist(), int(trajectory.turns[-1, 2]) - 1]

    def test_one_window_when_it_fits(self):
        trajectory = episode(0)
        (window,) = _windows(trajectory, len(trajectory.tokens))
        assert window[:2] == (0, len(trajectory.tokens))

    def test_turn_too_long(self):
        with pytest.raises(ValueError, match="raise critic_max_length"):
            list(_windows(episode(0), 3))

    def test_recent_turns_read_alike(self, critic):
        """A window that holds the whole past of a turn reads it as one pass over everything does."""
        trajectory = episode(0, num_turns=12)
        whole = values(critic, [trajectory])
        critic.max_length = 40
        windowed = values(critic, [trajectory])
        first = len(next(_windows(trajectory, 40))[3])
        assert 1 < first < 12
        torch.testing.assert_close(windowed.q1[:first], whole.q1[:first], atol=1e-5, rtol=1e-5)
        assert windowed.q1.shape == whole.q1.shape

    def test_limit_must_hold_a_turn(self, tmp_path):
        with pytest.raises(ValueError, match="critic must read at least one more"):
            build_critic(arguments(tmp_path, critic_max_length=256), build_model(), build_tokenizer())
        with pytest.raises(ValueError, match="more than the backbone's 4096"):
            build_critic(arguments(tmp_path, critic_max_length=5000), build_model(), build_tokenizer())


class TestBackbone:
    def test_starts_with_the_policys_first_layers(self, tmp_path):
        policy = build_model(num_hidden_layers=9)
        critic = build_critic(arguments(tmp_path), policy, build_tokenizer())
        own, given = critic.backbone.state_dict(), policy.model.state_dict()
        assert critic.backbone.config.num_hidden_layers == 2
        assert all(torch.equal(value, given[name]) for name, value in own.items())

    def test_same_on_every_process_and_leaves_global_randomness_alone(self, tmp_path):
        torch.manual_seed(5)
        first = build_critic(arguments(tmp_path), build_model(), build_tokenizer())
        torch.manual_seed(6)
        before = torch.get_rng_state()
        policy = build_model()
        torch.set_rng_state(before)
        second = build_critic(arguments(tmp_path), policy, build_tokenizer())
        assert torch.equal(torch.get_rng_state(), before)
        assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))

    def test_named_model_must_know_the_policys_tokens(self, tmp_path):
        config = RobertaConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16
        )
        RobertaModel(config).save_pretrained(tmp_path / "small")
        with pytest.raises(ValueError, match="must be a model of the same family"):
            build_critic(
                arguments(tmp_path, critic_model=str(tmp_path / "small"), max_completion_length=64),
                build_model(),
                build_tokenizer(),
            )


@pytest.fixture
def pair_critic(tmp_path):
    folder = save_encoder(tmp_path / "encoder")
    args = arguments(tmp_path, critic_kind="pair", critic_model=str(folder))
    return awake(build_critic(args, build_model(), build_tokenizer()))


class TestPairCritic:
    def test_reads_state_and_utterance_apart(self, pair_critic):
        assert isinstance(pair_critic, PairCritic)
        original = episode(0)
        start, end, _ = original.turns[1].tolist()
        tokens = original.tokens.clone()
        tokens[start:end] = (tokens[start:end] + 7) % 400 + 50
        found = values(pair_critic, [original])
        changed = values(pair_critic, [Trajectory(tokens, original.turns, original.rewards, True, False, 0)])
        torch.testing.assert_close(found.v1[:2], changed.v1[:2])
        assert not torch.isclose(found.q1[1], changed.q1[1])
        assert torch.equal(found.next_v1[:2], found.v1[1:])

    def test_long_texts_lose_their_beginning(self, pair_critic):
        pair_critic.max_length = 8
        long = episode(0, prompt=300)
        tokens = long.tokens.clone()
        tokens[:100] = (tokens[:100] + 7) % 400 + 50
        changed = Trajectory(tokens, long.turns, long.rewards, True, False, 0)
        assert torch.equal(values(pair_critic, [long]).v1, values(pair_critic, [changed]).v1)

    def test_default_model_is_the_papers(self, tmp_path):
        assert arguments(tmp_path, critic_kind="pair").critic_model == "roberta-base"


class TestHeads:
    def test_hl_gauss_targets_have_the_right_mean(self):
        head = HLGaussHead(4, 4, value_min=-20.0, value_max=0.0, bins=51)
        targets = torch.linspace(-20.0, 0.0, 41)
        probabilities = head.probabilities(targets)
        torch.testing.assert_close(probabilities.sum(-1), torch.ones(41))
        # A distribution that equals the target's has the target as its value.
        torch.testing.assert_close(head.value((probabilities + 1e-12).log()), targets, atol=0.02, rtol=0)

    def test_hl_gauss_learns_a_number(self):
        torch.manual_seed(0)
        head = HLGaussHead(4, 16, value_min=-2.0, value_max=2.0, bins=21)
        features = torch.randn(3, 4)
        targets = torch.tensor([-1.7, 0.1, 2.0])
        optimizer = torch.optim.Adam(head.parameters(), lr=1e-2)
        for _ in range(400):
            optimizer.zero_grad()
            head.loss(head(features), targets).mean().backward()
            optimizer.step()
        torch.testing.assert_close(head.value(head(features)), targets, atol=0.02, rtol=0)

    def test_targets_outside_count_as_the_nearest(self):
        head = HLGaussHead(4, 4, value_min=0.0, value_max=1.0, bins=21)
        inside = head.probabilities(torch.tensor([1.0, 0.0]))
        torch.testing.assert_close(head.probabilities(torch.tensor([7.0, -7.0])), inside)

    def test_regression(self):
        head = RegressionHead(4, 8)
        output = torch.tensor([[1.0], [-2.0]])
        assert head.value(output).tolist() == [1.0, -2.0]
        assert head.loss(output, torch.tensor([3.0, -2.0])).tolist() == [4.0, 0.0]

    def test_critic_with_bins(self, tmp_path):
        args = arguments(tmp_path, critic_head="hl_gauss", value_min=-3.0, value_max=1.0)
        critic = build_critic(args, build_model(), build_tokenizer())
        assert isinstance(critic, CausalCritic)
        found = values(critic, [episode(0)])
        torch.testing.assert_close(found.q1, torch.full((3,), -1.0), atol=1e-4, rtol=0)
