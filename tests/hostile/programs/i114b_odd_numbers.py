# overflow, denormals, complex numbers
# class: values
# cases: 114
# levels: 1 2 3
# allowed: OK
# inputs: ["1e400, 5e-324, -0.0", "1j, -2.5, 0x10", "10 ** 400, 1.0, 2"]
# deterministic: true
def f(x, y, z):
    return [x, y, z, 5e-324, 1.7976931348623157e308, 1e400, complex(1e400, -0.0), 3 - 0j]
