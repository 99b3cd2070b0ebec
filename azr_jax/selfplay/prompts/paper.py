"""The English prompt style: what the paper asks of its models, in our words.

Program, values and messages stand in fences labelled `python`, `input`, `output`, `message`.
Semantics after Absolute Zero, arXiv 2505.03335, appendix C. One slip is mended: there, what must
be hard to find was swapped between the deduction and the abduction proposer.
"""

from __future__ import annotations

from collections.abc import Sequence

from azr_jax.selfplay.drafts import ANY, DraftRules
from azr_jax.selfplay.triplet import Triplet

TAGS: tuple[str, ...] = ("<think>", "</think>", "<answer>", "</answer>", "```")

_CONVERSATION = """\
Below, a user sets a task and an assistant carries it out. The assistant first thinks the task \
through between <think> and </think>, and then gives the result between <answer> and </answer>, \
like this: <think> thoughts </think> <answer> result </answer>
User: {task}
Assistant: <think>"""

_CODE_RULES = """\
- The function that is called is named `f`, takes at least one argument and returns a value.
- The same arguments always give the same value: no randomness, no clock or dates, no files, \
network or keyboard, no printing or logging, no state kept outside the function.
- Arguments and results are plain values: numbers, strings, booleans, None, and lists, tuples, \
dicts and sets of these; no instances of classes, and no Counter, defaultdict or deque.
- {layout} It ends with the return of `f`.
- It finishes within seconds on one CPU core.
- These modules are not allowed: {banned}."""

_HELPERS = "Imports and classes stand at the top; helper functions are allowed."
_ONE_FUNCTION = (
    "Imports stand at the top. `f` is the only function: no helper functions, none inside `f`, and "
    "no classes with methods."
)

_INPUT_RULES = """\
- Write the arguments as they stand between the parentheses of the call, separated by commas, \
and put strings in quotes: for `f('Ann', {'age': 3})` the input is `'Ann', {'age': 3}`."""

_PROPOSE = """\
Invent a new Python program and one input for it. Together they make one question of a reasoning \
test: the test subject sees {seen} and has to find {sought}. Finding it must take real thought, \
many steps, with intermediate state to keep track of.

The program:
{code_rules}

The input:
- Exactly one.
{input_rules}

Give your answer in this form, first the program, then the input:
```python
def f(name, info):
    ...
    return result
```
```input
'Ann', {{'age': 3, 'city': 'Oslo'}}
```

Your question is judged by four things: the program runs on the input; {sought} is hard to find \
for the test subject, yet can be found; it is unlike the examples; it obeys the rules above. Plan \
first: what kind of reasoning shall it take, and how do you make it longer than in the \
examples?{examples}"""

_PROPOSE_INDUCTION = """\
Here is a Python program:
```python
{program}
```
Make a puzzle of it: the test subject sees some inputs with the outputs that the program gives, \
and a message from you, and has to find out what the program does. The rest of the inputs is kept \
back to test what was found.

Write {inputs} inputs and one message:
- All inputs differ, fit the program, and together show every side of what it does; they do not \
all give the same output.
{input_rules}
- The message may be a hint, a riddle, a question as in a coding test. It must not contain the \
program.
- The puzzle as a whole is challenging, but can be solved.

Give each input in a fence of its own, then the message:
```input
'Ann', {{'age': 3, 'city': 'Oslo'}}
```
```input
'Bo', {{'age': 41, 'city': 'Rome'}}
```
```message
What do the name and the age have to do with each other?
```
Plan first: which inputs tell apart the programs that one might guess?"""

_SOLVE_DEDUCTION = """\
What does this program return for this input? Think step by step.
```python
{program}
```
```input
{input}
```
Give the value as Python writes it, strings in quotes, several values as a tuple:
```output
{{'age': 4}}, 'Ann'
```"""

_SOLVE_ABDUCTION = """\
Find an input for which this program returns this output. Think step by step. There may be more \
than one; any is right.
```python
{program}
```
```output
{output}
```
{input_rules}
Give values only, no calls and no expressions:
```input
'Ann', {{'age': 3, 'city': 'Oslo'}}
```"""

_SOLVE_INDUCTION = """\
Find the program behind these inputs and outputs. It will be tested on further ones, so find the \
rule and do not list the cases.
{pairs}
This message goes with them:
```message
{message}
```
{code_rules}

Check your program on every pair above and mend it where it fails. Give it in this form:
```python
def f(a):
    return a
```"""


def propose_deduction(references: Sequence[Triplet], rules: DraftRules = ANY) -> str:
    return _propose("the program and the input", "the output", references, rules)


def propose_abduction(references: Sequence[Triplet], rules: DraftRules = ANY) -> str:
    return _propose("the program and the output", "an input that gives it", references, rules)


def propose_induction(program: str, inputs: int) -> str:
    return _conversation(
        _PROPOSE_INDUCTION.format(program=program, inputs=inputs, input_rules=_INPUT_RULES)
    )


def solve_deduction(program: str, input: str) -> str:
    return _conversation(_SOLVE_DEDUCTION.format(program=program, input=input))


def solve_abduction(program: str, output: str) -> str:
    return _conversation(
        _SOLVE_ABDUCTION.format(program=program, output=output, input_rules=_INPUT_RULES)
    )


def solve_induction(message: str, pairs: Sequence[tuple[str, str]]) -> str:
    """`pairs` are the shown (input, output) pairs only."""
    shown = "\n".join(
        f"```input_{k}\n{i}\n```\n```output_{k}\n{o}\n```" for k, (i, o) in enumerate(pairs, 1)
    )
    return _conversation(
        _SOLVE_INDUCTION.format(message=message, pairs=shown, code_rules=_code_rules(ANY))
    )


def _conversation(task: str) -> str:
    return _CONVERSATION.format(task=task)


def _code_rules(rules: DraftRules) -> str:
    """What `rules` ask of a program, in words; `os` stands for `os.path` too."""
    banned = rules.policy.banned_modules
    named = [m for m in banned if m[0] != "_" and not ("." in m and m.partition(".")[0] in banned)]
    layout = _ONE_FUNCTION if rules.reject_multiple_functions else _HELPERS
    return _CODE_RULES.format(layout=layout, banned=", ".join(sorted(named)))


def _propose(seen: str, sought: str, references: Sequence[Triplet], rules: DraftRules) -> str:
    examples = "".join(
        f"\n\n<snippet_{k}>\n```python\n{r.program}\n```\n```input\n{r.input}\n```\n"
        f"```output\n{r.output}\n```\n</snippet_{k}>"
        for k, r in enumerate(references, 1)
    )
    if examples:
        examples = "\n\nExamples, to be unlike:" + examples
    return _conversation(
        _PROPOSE.format(
            seen=seen,
            sought=sought,
            code_rules=_code_rules(rules),
            input_rules=_INPUT_RULES,
            examples=examples,
        )
    )
