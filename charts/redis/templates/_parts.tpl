{{- define "redis.labels" -}}
app.kubernetes.io/name: redis
app.kubernetes.io/part-of: flyertime
{{- end }}

{{- define "redis.configuration" -}}
dir /data
appendonly yes
appendfsync {{ .Values.appendFsync }}
save ""
maxmemory {{ .Values.maxMemory }}
# State and pending events must never be thrown away to make room.
maxmemory-policy noeviction
# Beside a fold: no rewriting of the file for every 64 MB, no compressing of ids, which are random, and no searching through
# short hashes from end to end. A third of the store's time in a fold (docs/benchmarks.md).
auto-aof-rewrite-min-size 256mb
rdbcompression no
hash-max-listpack-entries 32
{{- end }}
