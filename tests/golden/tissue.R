# Golden values for tests/test_tissue_inference.py, test_tissue_table.py and test_tissue_bias.py.
# Run from this folder: Rscript tissue.R > tissue.json
library(survival)
library(glmnet)
library(jsonlite)

set.seed(20261122)
n <- 160
site <- sample(c("east", "hill", "lake", "west", NA), n, TRUE, c(0.3, 0.3, 0.2, 0.15, 0.05))
age <- round(rnorm(n, 60, 10))
stage <- sample(c("I", "II", "III"), n, TRUE)
raw <- matrix(rgamma(n * 4, 1.5), n)
raw[, 4] <- ifelse(runif(n) < 0.2, raw[, 4], 0)  # seen in few patients
raw[, 3] <- raw[, 3] * ifelse(site %in% "lake", 3, 1)  # more at one site
prevalence <- round(raw / rowSums(raw), 3)
prevalence[, 1] <- round(1 - rowSums(prevalence[, -1]), 3)
eta <- -3 * prevalence[, 2] + 0.03 * age + 0.4 * (stage == "III")
time <- ceiling(rexp(n, 0.05 * exp(eta - mean(eta))))  # whole months: many ties
event <- rbinom(n, 1, 0.7)
entry <- round(pmax(time - 1 - rexp(n, 0.05), 0))
label <- rbinom(n, 1, plogis(eta - mean(eta)))
fold <- sample(0:3, n, TRUE)
risk <- round(eta + rnorm(n, 0, 0.5), 2)

known <- ifelse(is.na(site), "unknown", site)  # one stratum
d <- data.frame(time, event, entry, age, stage, known, label)
fine <- coxph.control(eps = 1e-13, toler.chol = 1e-14, iter.max = 50, timefix = FALSE)

# a site with 10 patients of either class has an intercept of its own, all others share one
own <- names(which(tapply(label, known, function(x) min(sum(x), sum(1 - x))) >= 10))
own <- setdiff(own, "unknown")
d$intercept <- ifelse(known %in% own, known, "other")

row <- function(fit) {
  s <- summary(fit)$coefficients["x", ]
  b <- s[[1]]
  e <- if (inherits(fit, "coxph")) s[["se(coef)"]] else s[["Std. Error"]]
  c(ratio = exp(b), lower = exp(b - qnorm(0.975) * e), upper = exp(b + qnorm(0.975) * e),
    p_value = 2 * pnorm(-abs(b / e)))
}
effects <- lapply(1:4, function(j) {
  d$x <- as.vector(scale(prevalence[, j]))
  cox <- function(f) row(coxph(f, data = d, control = fine))
  odds <- function(f) row(glm(f, binomial, d, control = glm.control(epsilon = 1e-14)))
  list(alone = cox(Surv(time, event) ~ x + strata(known)),
       adjusted = cox(Surv(time, event) ~ x + age + stage + strata(known)),
       entry_alone = cox(Surv(entry, time, event) ~ x + strata(known)),
       entry_adjusted = cox(Surv(entry, time, event) ~ x + age + stage + strata(known)),
       no_site = row(coxph(Surv(time, event) ~ x + age + stage, data = d, control = fine)),
       odds_alone = odds(label ~ x + intercept),
       odds_adjusted = odds(label ~ x + age + stage + intercept))
})

# Rao's score test of each cluster beside clinical columns
score <- sapply(1:4, function(j) {
  d$x <- as.vector(scale(prevalence[, j]))
  base <- coxph(Surv(entry, time, event) ~ age + stage + strata(known), data = d, control = fine)
  coxph(Surv(entry, time, event) ~ age + stage + x + strata(known), data = d,
        init = c(coef(base), 0), control = coxph.control(iter.max = 0, timefix = FALSE))$score
})

spearman <- sapply(0:3, function(f) sapply(1:4, function(j)  # a row a cluster
  cor(prevalence[fold == f, j], risk[fold == f], method = "spearman")))

places <- c("east", "hill", "lake", "west")
some <- !is.na(site)
mann_whitney <- lapply(1:4, function(j) sapply(places, function(s) {
  x <- prevalence[some & site %in% s, j]
  y <- prevalence[some & !(site %in% s), j]
  test <- wilcox.test(x, y, exact = FALSE, correct = TRUE)
  c(auc = unname(test$statistic) / length(x) / length(y), p_value = test$p.value)
}))
p_values <- unlist(lapply(mann_whitney, function(m) m["p_value", ]))

X <- scale(prevalence[, 2:4]) * sqrt(n / (n - 1))
z <- as.vector(scale(risk)) * sqrt(n / (n - 1))
ridge <- sapply(c(1, 0.1, 0.001), function(penalty) as.vector(
  glmnet(X, z, alpha = 0, lambda = penalty, standardize = FALSE, intercept = FALSE, thresh = 1e-30,
         maxit = 1e7)$beta))

cat(toJSON(list(
  made_with = list(R = R.version.string, survival = as.character(packageVersion("survival")),
                   glmnet = as.character(packageVersion("glmnet"))),
  patients = list(site = site, age = age, stage = stage, time = time, event = event, entry = entry,
                  label = label, fold = fold, risk = risk),
  prevalence = prevalence, effects = effects, score = score, spearman = spearman,
  sites = places, auc = t(sapply(mann_whitney, function(m) m["auc", ])),
  p_value = t(sapply(mann_whitney, function(m) m["p_value", ])),
  fdr = matrix(p.adjust(p_values, "BH"), 4, byrow = TRUE),
  cluster_fdr = p.adjust(sapply(effects, function(e) e$adjusted[["p_value"]]), "BH"),
  ridge = list(X = X, z = z, penalties = c(1, 0.1, 0.001), coef = t(ridge))
), digits = NA, auto_unbox = TRUE, pretty = 1, na = "null"))
