# loop swallowing everything
# class: cpu
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    while True:
        try:
            while True:
                pass
        except BaseException:
            pass
