# exponential recursion
# class: cpu
# cases: 19
# levels: 1 2 3
# allowed: TIMEOUT
# inputs: ["1"]
def f(x):
    def fib(n):
        return n if n < 2 else fib(n - 1) + fib(n - 2)
    return fib(60)
