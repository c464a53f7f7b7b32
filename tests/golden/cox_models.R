# Golden values for tests/models/test_hazard.py and tests/models/test_cox.py.
# Run from this folder: Rscript cox_models.R > cox_models.json
library(survival)
library(jsonlite)

set.seed(20260719)
n <- 120
x <- matrix(round(rnorm(n * 3), 2), n)
event_time <- rexp(n, 0.05 * exp(0.8 * x[, 1] - 0.5 * x[, 2]))
censoring <- runif(n, 2, 40)
event <- as.integer(event_time <= censoring)
time <- ceiling(pmin(event_time, censoring))              # tied times
margin <- round(0.7 * x[, 1] + 0.2 * x[, 3], 2)
y <- Surv(time, event)

fixed <- coxph(y ~ offset(margin), ties = "breslow")
# Breslow's baseline at margin 0; basehaz() of an offset-only fit does not give it
event_times <- sort(unique(time[event == 1]))
at_zero <- cumsum(sapply(event_times, function(t)
  sum(event[time == t]) / sum(exp(margin[time >= t]))))
free <- coxph(y ~ x, ties = "breslow")
curve <- survfit(free, newdata = list(x = x[1:3, ]), se.fit = FALSE)
kept <- curve$n.event > 0

# The engine: ties, strata, late entry (start-stop) and weights, together and apart
exact <- coxph.control(eps = 1e-14, iter.max = 100, timefix = FALSE)
late <- data.frame(
  entry = pmax(0, time - ceiling(rexp(n, 0.08))), time = time, event = event,
  stratum = sample(c("a", "b", "c"), n, replace = TRUE),
  weight = sample(c(0.5, 1, 1.7, 3), n, replace = TRUE)
)
described <- list(
  plain = Surv(time, event) ~ x,
  strata = Surv(time, event) ~ x + strata(stratum),
  entry = Surv(entry, time, event) ~ x,
  both = Surv(entry, time, event) ~ x + strata(stratum)
)
fits <- list()
for (name in names(described)) for (ties in c("breslow", "efron")) for (weighted in c(FALSE, TRUE)) {
  w <- if (weighted) late$weight else rep(1, n)
  fit <- coxph(described[[name]], data = late, weights = w, ties = ties, control = exact)
  hazard <- basehaz(fit, centered = FALSE)
  step <- c(TRUE, diff(hazard$hazard) != 0)           # the times of events; each stratum from 0
  if (is.null(hazard$strata)) hazard$strata <- "all"
  step <- step & hazard$hazard > 0
  fits[[length(fits) + 1]] <- list(
    strata = name %in% c("strata", "both"), entry = name %in% c("entry", "both"),
    weighted = weighted, ties = ties, coefficients = unname(coef(fit)), log_likelihood = fit$loglik,
    baseline_times = hazard$time[step], baseline_hazard = hazard$hazard[step],
    baseline_strata = as.character(hazard$strata[step])
  )
}

cat(toJSON(list(
  versions = list(R = R.version.string, survival = as.character(packageVersion("survival"))),
  x = x, time = time, event = event, margin = margin,
  null_log_likelihood = free$loglik[1],
  offset_log_likelihood = fixed$loglik[length(fixed$loglik)],
  fitted_log_likelihood = free$loglik[2],
  event_times = event_times, baseline_hazard = at_zero,
  coefficients = unname(coef(free)),
  entry = late$entry, stratum = late$stratum, weight = late$weight, fits = fits,
  curve_times = curve$time[kept], curves = curve$surv[kept, ]
), digits = NA, auto_unbox = TRUE, pretty = TRUE))
