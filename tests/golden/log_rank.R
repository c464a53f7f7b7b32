# Golden values for tests/models/test_forest_splits.py.
# Run from this folder: Rscript log_rank.R > log_rank.json
library(survival)
library(jsonlite)

set.seed(20261122)
n <- 50
group <- rbinom(n, 1, 0.4)
time <- round(rexp(n, 0.1 * exp(0.7 * group)) + 1, 1)
event <- rbinom(n, 1, 0.7)
tied <- ceiling(time / 2)

# untied, with entry: the score test of a Cox model of the group is the log-rank test
entry <- round(runif(n, 0, 0.8) * time, 2)
untied <- time + seq_len(n) / 1000

cat(toJSON(list(
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  group = group, event = event, time = time, tied = tied, entry = entry, untied = untied,
  chisq = survdiff(Surv(time, event) ~ group)$chisq,
  chisq_tied = survdiff(Surv(tied, event) ~ group)$chisq,
  score_entry = unname(coxph(Surv(entry, untied, event) ~ group)$score)
), digits = NA, auto_unbox = TRUE))
