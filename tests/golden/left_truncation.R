# Golden values of left-truncated outcomes, for tests/test_censoring.py, test_calibration.py and
# test_left_truncation.py; the patients are those of survival_statistics.json.
# Run from this folder: Rscript left_truncation.R > left_truncation.json
library(survival)
library(jsonlite)

golden <- fromJSON("survival_statistics.json")
d <- as.data.frame(golden$patients)
horizon <- golden$horizon
some <- d[d$counts > 0, ]

# Censoring weights: an event comes before a censoring at the same time, so censorings are moved a
# little on; nobody enters in between. G(entry) / G(t-) is read from the two ends of one curve.
censoring_weights <- function(data, counts) {
  moved <- data$time + ifelse(data$event == 1, 0, 0.001)
  fit <- do.call(survfit, list(Surv(entry, moved, 1 - event) ~ 1, data = cbind(data, moved = moved),
                               weights = counts, timefix = FALSE))
  G <- stepfun(fit$time, c(1, fit$surv))
  list(at_event = ifelse(data$event == 1, G(data$entry) / G(data$time - 1e-6), 0),
       beyond = ifelse(data$time > horizon & data$entry < horizon, G(data$entry) / G(horizon + 0.5), 0))
}

x <- log(-log(pmin(pmax(d$survival, 0.001), 0.999)))
h <- data.frame(entry = d$entry, t = pmin(d$time, horizon), e = d$event * (d$time <= horizon), x,
                fold = d$fold, counts = d$counts, weights = d$weights)
h <- h[h$entry < horizon, ]
slope <- function(formula, data, weights)
  unname(do.call(coxph, list(formula, data = data, weights = weights,
                             control = coxph.control(eps = 1e-10)))$coefficients)
ones <- rep(1, nrow(h))
drawn <- h[h$counts > 0, ]
cox <- list(
  plain = slope(Surv(entry, t, e) ~ x, h, ones),
  strata = slope(Surv(entry, t, e) ~ x + strata(fold), h, ones),
  counts = slope(Surv(entry, t, e) ~ x + strata(fold), drawn, drawn$counts),
  weights = slope(Surv(entry, t, e) ~ x + strata(fold), h, h$weights),
  ties = slope(Surv(floor(entry), t, e) ~ x, h, ones)  # entries at the time of an event
)

# Concordance of entry with time counts pairs in which the one who entered later had the event
# later: tau = 2 C - 1. cvar is the variance of the score of a Cox model on the rank of entry within
# the risk set, over the squared number of pairs: the variance of C when entry and event are
# independent; with tied events its variance is another than ours, so these are the untied times.
tau <- function(data) {
  fit <- concordance(Surv(entry, untied, event) ~ entry, data, timefix = FALSE)
  estimate <- 2 * unname(fit$concordance) - 1
  z <- estimate / (2 * sqrt(fit$cvar))
  list(tau = estimate, standard_error = 2 * sqrt(fit$cvar), p_value = 2 * pnorm(-abs(z)),
       n_pairs = sum(fit$count[c("concordant", "discordant", "tied.x")]))
}
inside <- d[d$entry < d$untied, ]
late <- inside[inside$entry > 0, ]

cat(toJSON(list(
  made_with = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  censoring = list(plain = censoring_weights(d, rep(1, nrow(d))),
                   counts = censoring_weights(some, some$counts)),
  cox_slope = cox,
  entry_dependence = list(all = tau(inside), late = tau(late))
), digits = NA, auto_unbox = TRUE, na = "null", pretty = 1))
