# Golden values of random-effects meta-analysis: REML, Hartung-Knapp with its factor at least 1.
# Rscript meta_analysis.R > meta_analysis.json
suppressMessages({library(metafor); library(jsonlite)})
set.seed(20261122)

bcg <- escalc(measure = "RR", ai = tpos, bi = tneg, ci = cpos, di = cneg, data = dat.bcg)
draw <- function(k, mean, tau, error) {
  list(estimate = rnorm(k, rnorm(k, mean, tau), error), error = error)
}
cases <- list(
  # Colditz et al. 1994, 13 trials of BCG vaccine, log risk ratios: metafor's own example
  bcg = list(estimate = as.numeric(bcg$yi), error = sqrt(as.numeric(bcg$vi))),
  # estimates closer to each other than their errors let expect: tau2 = 0, factor held at 1
  homogeneous = list(estimate = c(0.031, 0.030, 0.029, 0.032, 0.030),
                     error = c(0.012, 0.015, 0.010, 0.020, 0.011)),
  # the same value five times
  identical = list(estimate = rep(0.02, 5), error = c(0.01, 0.02, 0.03, 0.04, 0.05)),
  # tau2 = 0 although Q is above its degrees of freedom
  none_between = list(estimate = c(0.021, 0.098, 0.025, -0.005, 0.018),
                      error = c(0.010, 0.030, 0.020, 0.030, 0.005)),
  eight = draw(8, 0.02, 0, runif(8, 0.005, 0.03)),
  one_huge_error = list(estimate = c(0.02, 0.05, 0.01, 0.9), error = c(0.01, 0.012, 0.011, 3)),
  one_tiny_error = list(estimate = c(0.02, 0.05, 0.01, 0.04), error = c(0.01, 0.012, 0.00002, 0.02)),
  unequal = draw(9, 0.1, 0.05, 10^seq(-4, 1, length.out = 9)),
  # the restricted likelihood has two maxima, one near 0
  two_maxima = list(estimate = c(8.275, -0.081, 0.049), error = c(1.372, 0.093, 0.046)),
  two = list(estimate = c(0.01, 0.06), error = c(0.01, 0.02)),
  three = list(estimate = c(0.010, 0.045, 0.021), error = c(0.009, 0.012, 0.015)),
  three_far = list(estimate = c(-0.4, 0.5, 2.1), error = c(0.001, 0.002, 0.0015)),
  six_differences = list(estimate = c(0.021, -0.004, 0.037, 0.012, 0.055, 0.008),
                         error = c(0.0093, 0.0121, 0.0187, 0.0062, 0.0254, 0.0147)),
  twenty = draw(20, 0.03, 0.02, runif(20, 0.004, 0.05)),
  large_numbers = draw(7, 5e4, 2e3, runif(7, 500, 4000)),
  far_from_zero = draw(6, 1e3, 0.02, runif(6, 0.01, 0.03))
)

fit <- function(case) {
  # its default threshold, 1e-5, is an absolute change of tau2, and so too wide for differences in C
  found <- rma(yi = case$estimate, sei = case$error, method = "REML", test = "adhoc",
               control = list(threshold = 1e-13 * max(var(case$estimate), min(case$error)^2),
                              maxiter = 1e5))
  ahead <- predict(found)
  list(estimates = case$estimate, standard_errors = case$error,
       k = found$k, estimate = c(found$beta), standard_error = found$se, lower = found$ci.lb,
       upper = found$ci.ub, p_value = found$pval, tau2 = found$tau2, q = found$QE,
       q_p_value = found$QEp, i2 = found$I2, h2 = found$H2, prediction_lower = ahead$pi.lb,
       prediction_upper = ahead$pi.ub, weights = unname(weights(found)) / 100)
}
cat(toJSON(list(r = R.version.string, metafor = as.character(packageVersion("metafor")),
                cases = lapply(cases, fit)), digits = NA, auto_unbox = TRUE, pretty = FALSE), "\n")
