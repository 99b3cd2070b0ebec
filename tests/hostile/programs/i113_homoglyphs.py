# letters that the compiler reads as others
# class: values
# cases: 113
# allowed: RAISED OK
# inputs: ["0", "1", "2"]
def f(x):
    if x == 0:
        return ｅval("ｏpen('/etc/passwd').read() and 'escaped'")
    if x == 1:
        return __ｉmport__('os').ｓystem('touch /tmp/hostile_canary') == 0 and 'escaped'
    а = '‮⁦ 1 ⁩' and 1  # a Cyrillic name, and marks that turn the line around
    return а
