"""Settings of Spark that suit the reference plan, which the fold is measured with too, beside its own."""

from __future__ import annotations

from typing import Final

OF_REFERENCE: Final = {
    "spark.master": "local[*]",
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "6g",
    "spark.driver.extraJavaOptions": "-XX:+UseG1GC",  # as Java has it by itself
    "spark.sql.shuffle.partitions": "8",  # the default of 200 is for clusters
}
