# Golden values for tests/test_concordance_error.py.
# Run from this folder: Rscript concordance_error.R > concordance_error.json
suppressMessages(library(survival))
library(jsonlite)

set.seed(20261122)
n <- 80
fold <- rep(1:3, length.out = n)
site <- sample(1:14, n, replace = TRUE)
a <- round(rnorm(n), 1)                                   # tied risks
b <- round(0.6 * a + rnorm(n), 1)
risk3 <- -a^3                                             # the opposite order of a
event_time <- rexp(n, 0.05 * exp(0.7 * a + 0.3 * b))
censoring <- runif(n, 2, 40)
event <- as.integer(event_time <= censoring)
time <- ceiling(pmin(event_time, censoring))              # tied times
entry <- round(pmax(0, runif(n, -0.8, 0.9)) * (time - 0.5), 1)
entry[c(3, 9, 27)] <- pmax(time[c(3, 9, 27)] - 1, 0)      # entries tied with the times of others
d <- data.frame(time, event, entry, fold, site, a, b, risk3)

told <- function(fit) list(
  estimate = unname(fit$concordance), covariance = unname(fit$var), influence = unname(fit$dfbeta),
  counts = if (is.matrix(fit$count)) colSums(fit$count) else fit$count)
one <- function(formula, ...)  # clusters go by value: passed on through ..., they are looked up wrongly
  told(do.call(concordance, list(formula, data = d, reverse = TRUE, influence = 1, ...)))

# several risks at once: models that do not move from the coefficient 1, so that lp orders as the risk
fixed <- function(left, risk, strata = FALSE) {
  formula <- as.formula(paste(left, "~", risk, if (strata) "+ strata(fold)" else ""))
  suppressWarnings(coxph(formula, d, init = 1, iter.max = 0, x = TRUE, y = TRUE))
}
several <- function(left, strata = FALSE, ...) {
  fits <- lapply(c("a", "b", "risk3"), function(risk) fixed(left, risk, strata))
  told(do.call(concordance, c(fits, list(influence = 1, ...))))
}
plain <- "Surv(time, event)"
late <- "Surv(entry, time, event)"

cat(toJSON(list(
  made_with = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  patients = d,
  one = list(
    plain = one(Surv(time, event) ~ a),
    strata = one(Surv(time, event) ~ b + strata(fold)),
    entry = one(Surv(entry, time, event) ~ a),
    entry_strata = one(Surv(entry, time, event) ~ b + strata(fold)),
    cluster = one(Surv(time, event) ~ a, cluster = site),
    entry_strata_cluster = one(Surv(entry, time, event) ~ b + strata(fold), cluster = site)
  ),
  several = list(
    plain = several(plain),
    strata = several(plain, TRUE),
    entry = several(late),
    entry_strata = several(late, TRUE),
    cluster = several(plain, cluster = site),
    entry_strata_cluster = several(late, TRUE, cluster = site)
  )
), digits = NA, auto_unbox = TRUE, na = "null", dataframe = "columns", pretty = 1))
