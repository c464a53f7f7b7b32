# Golden values for tests/models/test_late_fusion.py: the regression that weighs the risks of blocks.
# Run from this folder: Rscript late_fusion.R > late_fusion.json
suppressMessages(library(survival))
suppressMessages(library(glmnet))
library(jsonlite)

set.seed(20261122)
n <- 90
fold <- rep(0:2, 30)
a <- round(rnorm(n), 2)
b <- round(0.4 * a + rnorm(n), 2)
lacks <- rbinom(n, 1, 0.15)
event_time <- rexp(n, 0.1 * exp(0.7 * a + 0.3 * b + 0.5 * lacks + 0.3 * fold))
censoring <- runif(n, 1, 25)
event <- as.integer(event_time <= censoring)
time <- ceiling(pmin(event_time, censoring))               # tied times
entry <- pmax(0, time - ceiling(rexp(n, 0.1)))
label <- rbinom(n, 1, plogis(0.8 * a + 0.5 * b - 0.4 + 0.5 * fold))

# A penalty of theta / 2 times the squared coefficient on the log likelihood, columns as they are
cox <- function(y) {
  control <- coxph.control(eps = 1e-14, iter.max = 200, timefix = FALSE, toler.chol = 1e-16)
  unname(coef(coxph(
    y ~ ridge(a, b, lacks, theta = 1, scale = FALSE) + strata(fold),
    ties = "breslow", control = control, outer.max = 100
  )))
}

# glmnet divides the log likelihood by n and scales penalty factors to a sum of the columns
x <- cbind(a, b, lacks, fold == 1, fold == 2)
factors <- c(1, 1, 1, 0, 0)
logistic <- glmnet(
  x, label, family = "binomial", alpha = 0, standardize = FALSE, penalty.factor = factors,
  lambda = sum(factors) / length(factors) / n, thresh = 1e-20, maxit = 1e7
)
weights <- as.numeric(coef(logistic))[2:4]
margin <- drop(cbind(a, b, lacks) %*% weights)
intercept <- unname(coef(glm(
  label ~ 1, offset = margin, family = binomial, control = glm.control(epsilon = 1e-14)
)))

cat(toJSON(list(
  versions = list(
    R = as.character(getRversion()), survival = as.character(packageVersion("survival")),
    glmnet = as.character(packageVersion("glmnet"))
  ),
  patients = list(
    fold = fold, a = a, b = b, lacks = lacks, time = time, event = event, entry = entry,
    label = label
  ),
  cox = cox(Surv(time, event)), cox_entry = cox(Surv(entry, time, event)),
  logistic = weights, intercept = intercept
), digits = NA, auto_unbox = TRUE))
