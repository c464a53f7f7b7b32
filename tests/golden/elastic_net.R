# Elastic-net Cox regressions of R glmnet, for tests/models/test_coordinate_descent.py:
#   Rscript elastic_net.R > elastic_net.json
# glmnet rescales penalty.factor to mean 1; the penalties written here have that undone, so that the
# objective is -logPL / sum(w) + penalty * sum_j factor_j (a |b_j| + (1 - a) / 2 b_j^2).
library(survival)
library(glmnet)
library(jsonlite)

glmnet.control(fdev = 0, devmax = 1, epsnr = 1e-15, mxitnr = 1000)
set.seed(7)
n <- 90
p <- 12
shared <- rnorm(n)
x <- round(0.6 * shared + matrix(rnorm(n * p), n, p), 3)
x[, 3] <- as.numeric(x[, 3] > 0.4)                          # binary
x[, 4] <- 20 * x[, 4] + 60                                  # far from zero, and wide
died <- rexp(n, 0.05 * exp(0.8 * x[, 1] - 0.6 * x[, 2] + 0.5 * x[, 3]))
left <- runif(n, 2, 40)
time <- ceiling(pmin(died, left))                           # whole months: many ties
event <- as.numeric(died <= left)
strata <- sample(1:3, n, replace = TRUE)
# coxgrad() of glmnet 4.1-6 is wrong for who enters and leaves between two events (its gradient is
# not 0 there, unlike the martingale residual of coxph): everybody here sees at least one event.
event[time == ave(time, strata, FUN = min)] <- 1
seen <- sapply(1:n, function(i) max(time[event == 1 & time <= time[i] & strata == strata[i]]))
entry <- pmax(0, pmin(time - sample(1:12, n, replace = TRUE), seen - 1))
weight <- sample(c(0.5, 1, 2, 3), n, replace = TRUE)
factor <- c(0, 1, 0, 1, 1, 2, 0.5, 1, 1, 3, 1, 1)           # two columns without a penalty
wide <- round(matrix(rnorm(n * 100), n, 100), 3)
wide[, 1:p] <- x / 2

fit <- function(x, l1_ratio, y = Surv(time, event), factor = rep(1, ncol(x)), ...) {
  model <- glmnet(x, y, family = "cox", alpha = l1_ratio, standardize = FALSE, nlambda = 7,
                  lambda.min.ratio = 0.05, penalty.factor = factor, thresh = 1e-14, maxit = 1e7, ...)
  # Not the first penalty: the null model, which glmnet only fits to about 1e-2.
  list(l1_ratio = l1_ratio, factor = factor, penalties = model$lambda[-1] / mean(factor),
       coefficients = unname(as.matrix(model$beta))[, -1])
}

late <- Surv(entry + 0.5, time, event)  # the same risk sets, and no entry is tied with an event
answer <- list(
  versions = list(R = as.character(getRversion()), glmnet = as.character(packageVersion("glmnet"))),
  x = x, wide = wide, time = time, event = event, entry = entry, strata = strata, weight = weight,
  cases = list(
    elastic_net = fit(x, 0.5),
    lasso = fit(x, 1),
    nearly_ridge = fit(x, 0.05),
    more_columns_than_patients = fit(wide, 0.5),
    factor = fit(x, 0.5, factor = factor),
    weight = fit(x, 0.5, weights = weight, factor = factor),
    strata = fit(x, 0.5, y = stratifySurv(Surv(time, event), strata), factor = factor),
    entry = fit(x, 0.5, y = late, factor = factor),
    entry_strata_weight = fit(x, 0.7, y = stratifySurv(late, strata), weights = weight,
                              factor = factor)
  )
)
cat(toJSON(answer, digits = 10, auto_unbox = TRUE, matrix = "rowmajor"))
