# subprocess
# class: process
# cases: 52
# allowed: RAISED
# inputs: ["1"]
import subprocess

def f(x):
    return subprocess.run(['true']).returncode
