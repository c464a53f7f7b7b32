# Golden values for tests/test_concordance.py, test_censoring.py, test_discrimination.py,
# test_calibration.py, test_description.py and test_comparison.py.
# Run from this folder: Rscript survival_statistics.R > survival_statistics.json
library(survival)
library(jsonlite)

set.seed(20260718)
n <- 90
fold <- rep(1:3, length.out = n)
risk <- round(rnorm(n), 1)                                # tied risks
event_time <- rexp(n, 0.05 * exp(0.7 * risk))
censoring <- runif(n, 2, 40)
event <- as.integer(event_time <= censoring)
time <- ceiling(pmin(event_time, censoring))              # tied times
counts <- rpois(n, 1)                                     # bootstrap-like, some 0
weights <- round(runif(n, 0.2, 3), 2)
entry <- round(pmax(0, runif(n, -0.8, 0.9)) * (time - 0.5), 2)
untied <- pmin(event_time, censoring)                     # no ties
survival <- pmin(pmax(exp(-0.04 * 15 * exp(0.9 * risk)), 0), 1)
probability <- round(1 / (1 + exp(-1.5 * risk + 0.4)), 3)
horizon <- 15
tau <- 25

# weights go by value: passed on through ..., the model functions look them up in the wrong place
call_with <- function(f, formula, data, w, ...)
  do.call(f, list(formula, data = data, weights = if (is.null(w)) rep(1, nrow(data)) else w, ...))
conc <- function(formula, data, weights = NULL, ...)
  unname(call_with(concordance, formula, data, weights, reverse = TRUE, ...)$concordance)
d <- data.frame(time, event, risk, fold, counts, weights, entry, untied)
some <- d[d$counts > 0, ]

harrell <- list(
  plain = conc(Surv(time, event) ~ risk, d),
  strata = conc(Surv(time, event) ~ risk + strata(fold), d),
  counts = conc(Surv(time, event) ~ risk + strata(fold), some, weights = some$counts),
  weights = conc(Surv(time, event) ~ risk + strata(fold), d, weights = d$weights),
  entry = conc(Surv(entry, time, event) ~ risk + strata(fold), d),
  entry_weights = conc(Surv(entry, time, event) ~ risk, d, weights = d$weights)
)
harrell_se <- sqrt(concordance(Surv(time, event) ~ risk + strata(fold), d, reverse = TRUE)$var)
uno <- list(
  plain = conc(Surv(time, event) ~ risk, d, timewt = "n/G2"),
  tau = conc(Surv(time, event) ~ risk, d, timewt = "n/G2", ymax = tau - 0.5),
  untied = conc(Surv(untied, event) ~ risk, d, timewt = "n/G2"),
  weights = conc(Surv(untied, event) ~ risk, d, d$weights, timewt = "n/G2")
)

curve <- function(fit) list(time = fit$time, survival = fit$surv, lower = fit$lower,
                            upper = fit$upper, n_at_risk = fit$n.risk, n_events = fit$n.event)
loglog <- function(formula, data, weights = NULL)
  call_with(survfit, formula, data, weights, conf.type = "log-log")
middle <- function(fit) unname(as.list(quantile(fit, 0.5)))[1:3]
# reverse: an event comes before a censoring at the same time, so censorings are moved a little on
moved <- time + ifelse(event == 1, 0, 0.001)
reverse <- loglog(Surv(moved, 1 - event) ~ 1, d)
even <- data.frame(t = c(1, 2, 3, 4), e = c(1, 1, 1, 0))  # exactly one half from 2 to 3
overall <- loglog(Surv(time, event) ~ 1, d)
curves <- list(
  overall = curve(overall), overall_median = middle(overall),
  counts = curve(loglog(Surv(time, event) ~ 1, some, weights = some$counts)),
  entry = curve(loglog(Surv(entry, time, event) ~ 1, d)),
  reverse = curve(reverse), reverse_median = middle(reverse),
  even_median = middle(loglog(Surv(t, e) ~ 1, even))
)

x <- log(-log(pmin(pmax(survival, 0.001), 0.999)))
h <- data.frame(t = pmin(time, horizon), e = event * (time <= horizon), x, fold, counts, weights)
slope <- function(formula, data, weights = NULL)
  unname(call_with(coxph, formula, data, weights, control = coxph.control(eps = 1e-10))$coefficients)
cox <- list(
  plain = slope(Surv(t, e) ~ x, h),
  strata = slope(Surv(t, e) ~ x + strata(fold), h),
  counts = slope(Surv(t, e) ~ x + strata(fold), h[h$counts > 0, ], weights = some$counts),
  weights = slope(Surv(t, e) ~ x + strata(fold), h, weights = h$weights)
)
logit <- qlogis(pmin(pmax(probability, 0.001), 0.999))
logistic <- list(
  plain = unname(coef(glm(event ~ logit, family = binomial, epsilon = 1e-14))[2]),
  counts = unname(coef(glm(event ~ logit, family = binomial, weights = counts,
                           epsilon = 1e-14))[2])
)

third <- cut(rank(risk), 3, labels = FALSE)
test <- function(formula) {
  fit <- survdiff(formula)
  list(statistic = fit$chisq, p_value = pchisq(fit$chisq, 2, lower.tail = FALSE))
}
log_rank <- list(plain = test(Surv(time, event) ~ third),
                 strata = test(Surv(time, event) ~ third + strata(fold)))

p <- c(0.01, 0.04, 0.03, 0.5, 0.04, 0.9)
cat(toJSON(list(
  made_with = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  patients = list(time = time, event = event, risk = risk, fold = fold, counts = counts,
                  weights = weights, entry = entry, untied = untied, survival = survival,
                  probability = probability, third = third),
  horizon = horizon, tau = tau,
  harrell_c = harrell, harrell_se = harrell_se, uno_c = uno, curves = curves, cox_slope = cox, logistic_slope = logistic,
  log_rank = log_rank,
  holm = list(p = p, adjusted = p.adjust(p, "holm"))
), digits = NA, auto_unbox = TRUE, na = "null", pretty = 1))
