# Golden values for tests/test_smoothed_calibration.py and tests/test_decision_curves.py.
# Run from this folder: Rscript calibration_index.R > calibration_index.json
library(survival)
library(jsonlite)

set.seed(20261122)
n <- 240
risk <- round(rnorm(n), 2)
event_time <- rexp(n, 0.05 * exp(0.7 * risk + 0.25 * risk^2))  # not what is predicted: curved
censoring <- runif(n, 2, 40)
event <- as.integer(event_time <= censoring)
time <- ceiling(pmin(event_time, censoring))                    # tied times
counts <- rpois(n, 1)                                           # bootstrap-like, some 0
weights <- round(runif(n, 0.2, 3), 2)
entry <- round(pmax(0, runif(n, -0.8, 0.9)) * (time - 0.5), 2)
survival_at <- function(t) exp(-0.04 * t * exp(0.9 * risk))
probability <- round(1 / (1 + exp(-1.5 * risk + 0.4)), 3)
horizons <- c(8, 15)

# Harrell's restricted cubic spline, knots at 10, 50 and 90% of all patients, written out
bend <- function(x) {
  t <- unname(quantile(x, c(0.1, 0.5, 0.9)))
  cube <- function(k) pmax(x - k, 0)^3
  (cube(t[1]) - cube(t[2]) * (t[3] - t[1]) / (t[3] - t[2])
    + cube(t[3]) * (t[2] - t[1]) / (t[3] - t[2])) / (t[3] - t[1])^2
}
if (requireNamespace("Hmisc", quietly = TRUE)) {
  x <- log(-log(survival_at(15)))
  theirs <- Hmisc::rcspline.eval(x, nk = 3, inclx = FALSE)[, 1]
  stopifnot(max(abs(theirs - bend(x))) < 1e-12, all.equal(
    attr(Hmisc::rcspline.eval(x, nk = 3), "knots"), unname(quantile(x, c(0.1, 0.5, 0.9)))))
}
tight <- coxph.control(eps = 1e-14, iter.max = 100)
index <- function(t, w = rep(1, n)) {
  predicted <- 1 - survival_at(t)
  x <- log(-log(pmin(pmax(1 - predicted, 0.001), 0.999)))
  d <- data.frame(t = pmin(time, t), e = event * (time <= t), x, b = bend(x), w)
  used <- d[d$w > 0, ]
  fit <- do.call(coxph, list(Surv(t, e) ~ x + b, data = used, weights = used$w, control = tight))
  observed <- 1 - as.vector(summary(survfit(fit, newdata = used), times = t)$surv)
  weighted.mean(abs(observed - predicted[d$w > 0]), used$w)
}
# delayed entry: of those who entered before t, the event between entry and t
index_entry <- function(t) {
  x <- log(-log(pmin(pmax(survival_at(t), 0.001), 0.999)))
  d <- data.frame(entry, t = pmin(time, t), e = event * (time <= t), x)
  d <- d[entry < t, ]
  d$b <- bend(d$x)
  fit <- coxph(Surv(entry, t, e) ~ x + b, data = d, control = tight)
  curve <- survfit(fit, newdata = d)
  steps <- rbind(1, as.matrix(curve$surv))
  at <- function(when) steps[cbind(findInterval(when, curve$time) + 1, seq_len(nrow(d)))]
  observed <- 1 - at(rep(t, nrow(d))) / at(d$entry)
  at_entry <- exp(-0.04 * d$entry * exp(0.9 * risk[entry < t]))
  mean(abs(observed - (1 - survival_at(t)[entry < t] / at_entry)))
}
logistic <- function(w = rep(1, n)) {
  x <- qlogis(pmin(pmax(probability, 0.001), 0.999))
  fit <- suppressWarnings(glm(event ~ x + bend(x), family = binomial, weights = w,
                              epsilon = 1e-14, maxit = 100))
  weighted.mean(abs(fitted(fit) - probability), w)
}

# decision curve: Vickers, Cronin, Elkin & Gonen 2008, Kaplan-Meier of those at or above a threshold
dead_by <- function(y, t, w) 1 - summary(do.call(survfit, list(y ~ 1, weights = w)),
                                         times = t, extend = TRUE)$surv
net <- function(treated, t, threshold, w = rep(1, n)) {
  use <- treated & w > 0
  if (!any(use)) return(0)
  share <- sum(w[use]) / sum(w)
  dead <- dead_by(Surv(time[use], event[use]), t, w[use])
  dead * share - (1 - dead) * share * threshold / (1 - threshold)
}
thresholds <- c(0.05, 0.1, 0.25, 0.4, 0.6, 0.85, 0.99)
curve <- function(t, w = rep(1, n)) list(
  model = sapply(thresholds, function(p) net(1 - survival_at(t) >= p, t, p, w)),
  all = sapply(thresholds, function(p) net(rep(TRUE, n), t, p, w)))

each <- function(f, ...) sapply(horizons, f, ...)
cat(toJSON(list(
  made_with = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  patients = list(time = time, event = event, risk = risk, counts = counts, weights = weights,
                  entry = entry, probability = probability),
  horizons = horizons, survival = sapply(horizons, survival_at),
  at_entry = exp(-0.04 * entry * exp(0.9 * risk)),
  index = list(plain = each(index), counts = each(index, w = counts),
               weights = each(index, w = weights), entry = each(index_entry)),
  logistic = list(plain = logistic(), counts = logistic(counts)),
  thresholds = thresholds,
  net_benefit = list(plain = lapply(horizons, curve), counts = lapply(horizons, curve, w = counts))
), digits = NA, auto_unbox = TRUE, na = "null", pretty = 1))
