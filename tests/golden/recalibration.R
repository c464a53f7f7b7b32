# Golden values of calibration in the large and of the cumulative hazard of patients' own follow-up.
# Rscript recalibration.R > recalibration.json
suppressMessages({library(survival); library(jsonlite); library(sandwich)})
set.seed(20160816)

simulate <- function(n) {
  x1 <- rnorm(n); x2 <- rbinom(n, 1, 0.4)
  event_time <- rexp(n, 0.1 * exp(0.7 * x1 - 0.5 * x2))
  entry <- runif(n, 0, 1)
  censored <- entry + runif(n, 1, 18)
  time <- pmin(event_time, censored)
  data.frame(x1, x2, entry, time = round(time, 2), event = event_time <= censored,
             site = sample(letters[1:12], n, replace = TRUE))
}
train <- simulate(160); train <- train[train$time > train$entry + 0.01, ]
other <- simulate(140); other <- other[other$time > other$entry + 0.01, ]

naive <- coxph(Surv(time, event) ~ x1 + x2, train, ties = "breslow", timefix = FALSE,
               control = coxph.control(eps = 1e-14, toler.chol = 1e-15))
late <- coxph(Surv(entry, time, event) ~ x1 + x2, train, ties = "breslow", timefix = FALSE,
              control = coxph.control(eps = 1e-14, toler.chol = 1e-15))
own <- predict(naive, newdata = other, type = "expected")
own_late <- predict(late, newdata = other, type = "expected")

# Crowson 2016: Poisson with offset. The exponential model of the cumulative hazard is the same one,
# and survreg gives its infinitesimal jackknife.
keep <- own > 0
hazard <- own[keep]; event <- other$event[keep]; site <- other$site[keep]
poisson <- glm(event ~ offset(log(hazard)), family = "poisson",
               control = list(epsilon = 1e-14, maxit = 100))
tight <- survreg.control(rel.tolerance = 1e-14, maxiter = 100)
alone <- survreg(Surv(hazard, event) ~ 1, dist = "exponential", robust = TRUE, control = tight)
by_site <- survreg(Surv(hazard, event) ~ 1, dist = "exponential", cluster = site, control = tight)

p <- plogis(rnorm(140, -0.6, 1.2)); label <- rbinom(140, 1, plogis(0.4 + 0.8 * qlogis(p)))
logistic <- glm(label ~ offset(qlogis(p)), family = "binomial",
                control = list(epsilon = 1e-14, maxit = 100))
sites <- other$site[rep_len(seq_len(nrow(other)), 140)]

cat(toJSON(list(
  r = R.version.string, survival = as.character(packageVersion("survival")),
  sandwich = as.character(packageVersion("sandwich")),
  train = train, other = other, own = unname(own), own_late = unname(own_late),
  poisson = list(
    hazard = unname(hazard), event = as.integer(event), site = site,
    estimate = unname(coef(poisson)), check = -unname(coef(alone)),
    standard_error = sqrt(vcov(alone)[1, 1]), by_site = sqrt(vcov(by_site)[1, 1])),
  logistic = list(
    p = p, label = label, site = sites, estimate = unname(coef(logistic)),
    standard_error = sqrt(vcovHC(logistic, type = "HC0")[1, 1]),
    by_site = sqrt(vcovCL(logistic, cluster = sites, type = "HC0", cadjust = FALSE)[1, 1]))
), digits = NA, auto_unbox = TRUE, pretty = FALSE), "\n")
