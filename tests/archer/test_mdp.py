"""The critic reaches the known values of small decision processes from data of another policy than the one it values."""

import random
from dataclasses import dataclass

import pytest
import torch
from accelerate import Accelerator
from transformers import Qwen3Config, Qwen3Model

from trl_multiturn import ArCHerConfig
from trl_multiturn.archer.buffer import ReplayBuffer, Trajectory
from trl_multiturn.archer.critic import CausalCritic, head_factory
from trl_multiturn.archer.learner import CriticLearner


ACTIONS = (10, 11)
GAMMA = 0.9
STEPS = 500


@dataclass
class Chain:
    """Three states in a row; the first action goes on, the second stays and costs. Over at the end or after four turns."""

    horizon = 4

    def start(self):
        return 0

    def outcomes(self, state, action):
        """Probability, next state, reward and whether it is over, for each thing that may happen."""
        if action == ACTIONS[1]:
            return [(1.0, state, -0.3, False)]
        return [(1.0, state + 1, 1.0 if state == 2 else 0.1, state == 2)]

    def token(self, state):
        return 2 + state


@dataclass
class Tree:
    """Two levels of chance: each node's reward is its own, and either action may lead to either child."""

    horizon = 3

    def start(self):
        return 1

    def outcomes(self, state, action):
        likely = 0.8 if action == ACTIONS[0] else 0.3
        children = (2 * state, 2 * state + 1)
        return [
            (p, child, 0.25 * ((child * 7) % 5) - 0.5, child >= 8)
            for p, child in zip((likely, 1 - likely), children, strict=True)
        ]

    def token(self, state):
        return 2 + state % 8


def policy(state) -> float:
    """Probability of the first action under the policy that is valued."""
    return 0.7 if state % 2 else 0.5


def exact_values(mdp, state, turn=0):
    """V and Q of both actions by recursion; `terminated` at the horizon too."""
    q = {}
    for action in ACTIONS:
        q[action] = sum(
            p * (reward + (0.0 if over or turn + 1 == mdp.horizon else GAMMA * exact_values(mdp, after, turn + 1)[0]))
            for p, after, reward, over in mdp.outcomes(state, action)
        )
    first = policy(state)
    return first * q[ACTIONS[0]] + (1 - first) * q[ACTIONS[1]], q


def roll_out(mdp, choose, rng):
    """One episode as a trajectory, and its exact values."""
    state, tokens, spans, rewards, exact = mdp.start(), [1, mdp.token(mdp.start())], [], [], []
    for turn in range(mdp.horizon):
        action = choose(state, rng)
        value, q = exact_values(mdp, state, turn)
        exact.append((value, q[action]))
        chances = mdp.outcomes(state, action)
        _, state, reward, over = rng.choices(chances, [c[0] for c in chances])[0]
        spans.append([len(tokens), len(tokens) + 1, len(tokens) + 2])
        tokens += [action, mdp.token(state)]
        rewards.append(reward)
        if over:
            break
    return (
        Trajectory(
            torch.tensor(tokens, dtype=torch.int32),
            torch.tensor(spans, dtype=torch.int32),
            torch.tensor(rewards),
            True,
            False,
            0,
        ),
        exact,
    )


def by_policy(state, rng):
    return ACTIONS[0] if rng.random() < policy(state) else ACTIONS[1]


def at_random(state, rng):
    return rng.choice(ACTIONS)


def make_learner(tmp_path, buffer, **overrides):
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=16,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
    )
    args = ArCHerConfig(
        str(tmp_path),
        use_cpu=True,
        bf16=False,
        report_to=[],
        gamma=GAMMA,
        critic_learning_rate=3e-3,
        critic_lr_scheduler_type="linear",
        critic_batch_size=192,
        **overrides,
    )
    critic = CausalCritic(Qwen3Model(config), 32, head_factory(args, 32), 64).eval()
    return CriticLearner(critic, args, buffer, Accelerator(cpu=True), num_steps=STEPS)


def store(buffer, trajectories):
    first = buffer.next_id
    buffer.extend([(len(t.tokens), len(t), t.total_reward, 0) for t in trajectories], dict(enumerate(trajectories)))
    return first


@pytest.mark.slow
@pytest.mark.parametrize("mdp", [Chain(), Tree()], ids=["chain", "tree"])
@pytest.mark.parametrize("head", ["regression", "hl_gauss"])
def test_reaches_the_policys_values_from_random_data(tmp_path, mdp, head):
    rng = random.Random(0)
    buffer = ReplayBuffer(10**6, 10**9)
    store(buffer, [roll_out(mdp, at_random, rng)[0] for _ in range(1500)])
    fresh_id = store(buffer, [roll_out(mdp, by_policy, rng)[0] for _ in range(1500)])
    # Returns lie between -1.04 and 1.3.
    support = {"value_min": -1.2, "value_max": 1.5, "value_bins": 31} if head == "hl_gauss" else {}
    learner = make_learner(tmp_path, buffer, critic_head=head, **support)
    learner.update(STEPS, fresh_id)
    check(learner, [roll_out(mdp, by_policy, rng) for _ in range(200)])


@pytest.mark.slow
def test_reaches_them_from_resampled_utterances(tmp_path):
    mdp, rng = Chain(), random.Random(0)
    buffer = ReplayBuffer(10**6, 10**9)
    episodes = [roll_out(mdp, at_random, rng)[0] for _ in range(1500)]
    store(buffer, episodes)
    resampled = []
    for episode in episodes:
        for start, _, _ in random.Random(len(resampled)).sample(episode.turns.tolist(), 1):
            state = int(episode.tokens[start - 1]) - 2
            tokens = torch.cat([episode.tokens[:start], torch.tensor([by_policy(state, rng)], dtype=torch.int32)])
            turn = torch.tensor([[start, start + 1, start + 1]], dtype=torch.int32)
            resampled.append(Trajectory(tokens, turn, torch.zeros(1), True, False, 0))
    learner = make_learner(tmp_path, buffer, value_target="resample")
    for _ in range(STEPS):
        learner.update(1, 0, rng.sample(resampled, 128))
    check(learner, [roll_out(mdp, at_random, rng) for _ in range(100)])


def check(learner, episodes):
    found = learner.values([trajectory for trajectory, _ in episodes])
    exact = torch.tensor([pair for _, pairs in episodes for pair in pairs])
    for name, truth in (("v1", 0), ("v2", 0), ("q1", 1), ("q2", 1)):
        error = (getattr(found, name) - exact[:, truth]).abs()
        assert error.mean() < 0.05, f"{name}: {error.mean():.3f} on average"
