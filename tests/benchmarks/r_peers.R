# Fits one of R's libraries on a cohort that r_peers.py wrote, and measures CPU seconds and memory:
#   Rscript r_peers.R FOLDER
library(survival)
library(jsonlite)

folder <- commandArgs(TRUE)[1]
place <- function(name) file.path(folder, name)
given <- fromJSON(place("options.json"))
x <- readBin(place("X"), "double", given$n * given$p, size = 4)
dim(x) <- c(given$n, given$p)
colnames(x) <- paste0("x", seq_len(given$p))
y <- Surv(readBin(place("time"), "double", given$n), readBin(place("event"), "double", given$n))

tasks <- list(
  coxph = function(x, y) {
    model <- coxph(y ~ x, ties = given$ties, model = FALSE)
    list(penalties = 0, coef = coef(model))
  },
  coxph.fit = function(x, y) {  # without the model frame and the concordance
    model <- coxph.fit(x, y, NULL, NULL, NULL, coxph.control(), NULL, given$ties, NULL)
    list(penalties = 0, coef = model$coefficients)
  },
  glmnet = function(x, y) {
    fit <- function(...) glmnet::glmnet(x, y, family = "cox", alpha = given$l1_ratio, standardize = FALSE, ...)
    model <- if (is.null(given$lowest)) {
      fit(lambda = given$penalties)
    } else {
      fit(nlambda = given$penalties, lambda.min.ratio = given$lowest)
    }
    list(penalties = model$lambda, coef = as.matrix(model$beta))
  },
  ranger = function(x, y) {
    ranger::ranger(x = x, y = y, num.trees = given$n_trees, mtry = floor(sqrt(ncol(x))),
                   min.node.size = 15, splitrule = "logrank", num.threads = 1, seed = 1)
    list(penalties = numeric(0), coef = numeric(0))
  }
)

# Memory in GB by /proc, which only Linux has.
memory <- function(what) {
  if (!file.exists("/proc/self/status")) return(NULL)
  line <- grep(what, readLines("/proc/self/status"), value = TRUE)
  as.numeric(gsub("[^0-9]", "", line)) * 1024 / 1e9
}

fit <- tasks[[given$task]]
few <- seq_len(min(200, given$n))
suppressWarnings(fit(x[few, seq_len(min(20, given$p))], y[few]))
invisible(gc())
before <- memory("VmRSS")
start <- proc.time()
found <- suppressWarnings(fit(x, y))
spent <- proc.time() - start
measured <- list(cpu_seconds = spent[["user.self"]] + spent[["sys.self"]], wall_seconds = spent[["elapsed"]],
                 before_gb = before, peak_gb = memory("VmHWM"))
writeBin(as.numeric(found$penalties), place("penalties"))
writeBin(as.numeric(found$coef), place("coef"))
write(toJSON(measured, auto_unbox = TRUE, digits = 6), place("measured.json"))
