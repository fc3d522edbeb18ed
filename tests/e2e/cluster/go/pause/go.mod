module pretune.dev/cluster/pause

go 1.24.0

tool pretune.dev/cluster/pause
