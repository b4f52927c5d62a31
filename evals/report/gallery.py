"""The rollouts of the report, each with its verdict; a script filters them by outcome.

What models write is hostile: every text goes through `escape`, and the page's policy lets no script
run but its own.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from html import escape

from rlvr.evals.report.load import View
from rlvr.types import Outcome, Prompt, Rollout

MAX_CHARACTERS = 5000


def gallery(views: Sequence[View]) -> str:
    """Filters, and every rollout that is shown."""
    shown = [(index, view, rollout) for index, view in enumerate(views) for rollout in view.shown]
    if not shown:
        return ""
    counts = Counter(rollout.verdict.outcome for _, _, rollout in shown)
    total = sum(view.summary.samples for view in views)
    chips = [_chip("outcome", "", "all", len(shown), True)]
    chips += [
        _chip("outcome", item.value, item.value.replace("_", " "), counts[item], False)
        for item in Outcome
        if counts[item]
    ]
    rows = [f'<div class="chips" role="group" aria-label="outcome">{"".join(chips)}</div>']
    if len(views) > 1:
        of_view = [_chip("view", "", "all evaluations", len(shown), True)]
        of_view += [
            _chip("view", str(i), view.label, len(view.shown), False)
            for i, view in enumerate(views)
        ]
        rows.append(
            f'<div class="chips" role="group" aria-label="evaluation">{"".join(of_view)}</div>'
        )
    items = "".join(_item(index, view, rollout) for index, view, rollout in shown)
    return (
        '<section class="gallery"><h2>Rollouts</h2>'
        f'<p class="muted">{len(shown)} of {total} completions: the first ones of every outcome.'
        "</p>"
        f'<div class="filters">{"".join(rows)}<input class="search" type="search" '
        'placeholder="search in prompts and completions" aria-label="search"></div>'
        f'<div class="rollouts">{items}</div><p class="none" hidden>Nothing matches.</p></section>'
    )


def _chip(kind: str, value: str, label: str, count: int, pressed: bool) -> str:
    dot = f'<i class="swatch o-{value}"></i>' if kind == "outcome" and value else ""
    return (
        f'<button type="button" class="chip" data-{kind}="{escape(value)}" '
        f'aria-pressed="{str(pressed).lower()}">{dot}{escape(label)} <b>{count}</b></button>'
    )


def _item(index: int, view: View, rollout: Rollout) -> str:
    verdict, completion = rollout.verdict, rollout.completion
    outcome = verdict.outcome.value
    reward = "no reward" if verdict.reward is None else f"{verdict.reward:g}"
    facts = [("reward", reward), ("reason", verdict.reason)]
    facts.append(("extracted", "nothing" if verdict.extracted is None else verdict.extracted))
    facts.append(("expected", _answer(rollout.task.answer)))
    facts += [(name, f"{value:g}") for name, value in sorted(verdict.metrics.items())]
    facts.append(("ended by", completion.finish_reason.value))
    if completion.token_ids:
        facts.append(("tokens", str(len(completion.token_ids))))
    facts.append(("seed", str(rollout.seed)))
    listed = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(_cut(text))}</dd>" for name, text in facts if text
    )
    glance = " ".join(completion.text.split())[:90] or "(empty)"
    label = f'<span class="of-view">{escape(view.label)}</span>'
    return (
        f'<details class="rollout" data-outcome="{outcome}" data-view="{index}"><summary>'
        f'<span class="badge"><i class="swatch o-{outcome}"></i>{outcome.replace("_", " ")}</span>'
        f'<span class="task">{escape(rollout.task.id[:60])}</span>{label}'
        f'<span class="glance">{escape(glance)}</span></summary>'
        f'<div class="body"><div class="texts"><h4>Prompt</h4><pre>{_prompt(rollout.task.prompt)}'
        f"</pre><h4>Completion</h4><pre>{escape(_cut(completion.text)) or '(empty)'}</pre></div>"
        f'<dl class="facts">{listed}</dl></div></details>'
    )


def _prompt(prompt: Prompt) -> str:
    if isinstance(prompt, str):
        return escape(_cut(prompt))
    return "\n\n".join(
        f"<b>{escape(str(message['role']))}</b>\n{escape(_cut(str(message['content'])))}"
        for message in prompt
    )


def _answer(answer: object) -> str:
    text = answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}…"


def _cut(text: str) -> str:
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]}… ({len(text) - MAX_CHARACTERS} more characters)"
