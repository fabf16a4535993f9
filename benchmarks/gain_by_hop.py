"""What each hop of a perfect search is worth to the shipped policy: its belief in the answer along the oracle's searches.

The questions are held out. A gain that comes only with the last hop tells IGPO as much as the outcome does; one that comes
with every hop tells it more.

    python -m benchmarks.gain_by_hop
"""

import argparse
import json

import torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hops", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--questions", type=int, default=100, help="held-out questions for each number of hops")
    options = parser.parse_args()

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from trl_multiturn.environments.search import BM25Index, SearchEnvironment, load_fact_corpus, load_fact_questions
    from trl_multiturn.igpo.belief import score_beliefs
    from trl_multiturn.igpo.templates import encode_answer
    from trl_multiturn.recipes.search_policy import BELIEF_PREFIX, BELIEF_SUFFIX, SEARCH_POLICY

    tokenizer = AutoTokenizer.from_pretrained(SEARCH_POLICY)
    model = AutoModelForCausalLM.from_pretrained(SEARCH_POLICY, dtype=torch.float32)
    environment = SearchEnvironment(BM25Index.from_dataset(load_fact_corpus()))

    def context(messages: list[dict]) -> list[int]:
        return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)

    for hops in options.hops:
        sequences, ends, answers, prefix = [], [], [], []
        for row in load_fact_questions("validation", hops=hops, limit=options.questions):
            environment.reset()
            messages = list(row["prompt"])
            ends.append([len(context(messages))])
            for query in row["queries"]:
                call = {"name": "search", "arguments": {"query": query, "top_k": 1}}
                messages += [
                    {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": call}]},
                    {"role": "tool", "name": "search", "content": environment.search(query, 1)},
                ]
                ends[-1].append(len(context(messages)))
            sequences.append(context(messages))
            before, answer = encode_answer(tokenizer, row["answers"][0], BELIEF_PREFIX, BELIEF_SUFFIX)
            prefix.append(before)
            answers.append(answer)
        beliefs = torch.stack(score_beliefs(model, sequences, ends, answers, prefix=prefix)).mean(dim=0)
        gains = (beliefs[1:] - beliefs[:-1]).tolist()
        print(
            json.dumps(
                {"hops": hops, "belief": [round(b, 2) for b in beliefs.tolist()], "gain": [round(g, 2) for g in gains]}
            )
        )


if __name__ == "__main__":
    main()
