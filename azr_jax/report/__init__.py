"""What a run tells: metric files, the live view, the closing table, the HTML report.

A metrics row is flat: `{"step": 3, "seconds": 4.1, "reward/solve/deduction": 0.2, …}`. What stands
before the first slash is the chart, the rest the curve. Keys that the live view knows:
`reward/<role>/<type>`, `solve_rate/<type>`, `valid/<type>`, `valid_proposals`, `tokens_per_s`,
`sandbox/<what>`.
"""
