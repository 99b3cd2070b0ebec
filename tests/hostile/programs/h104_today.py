# the date: the clock cannot be walled off; the policy bans the import
# class: nondeterminism
# cases: 104
# levels: 1 2 3
# allowed: OK NONDETERMINISTIC
# inputs: ["1"]
# deterministic: true
import datetime

def f(x):
    return datetime.date.today().isoformat()
