{{/* Name of the application, for labels. */}}
{{- define "pretune.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the release's resources; at most 52 characters, so that the longest suffix fits. */}}
{{- define "pretune.fullname" -}}
{{- $name := include "pretune.name" . }}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) }}
{{- $name = default $full .Values.fullnameOverride | trunc 52 | trimSuffix "-" }}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) }}
{{- fail (printf "no Service may be named %s: name the release with a letter first and no dots, or set fullnameOverride" $name) }}
{{- end }}
{{- $name }}
{{- end }}

{{/* Labels that tell the operator of this release from everything else; they never change. */}}
{{- define "pretune.selectorLabels" -}}
app.kubernetes.io/name: {{ include "pretune.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: operator
{{- end }}

{{/* Labels of every resource. */}}
{{- define "pretune.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "pretune.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: pretune
{{- end }}

{{/* Labels of every resource, and those that values add to one: `dict "root" $ "added" LABELS`. The added ones win. */}}
{{- define "pretune.labelsWith" -}}
{{- merge (deepCopy (default dict .added)) (include "pretune.labels" .root | fromYaml) | toYaml }}
{{- end }}

{{/* Labels of the pod of `helm test`. */}}
{{- define "pretune.testLabels" -}}
app.kubernetes.io/name: {{ include "pretune.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: test
{{- end }}

{{/* Name of the operator's ServiceAccount. */}}
{{- define "pretune.serviceAccountName" -}}
{{- $made := .Values.serviceAccount.create | ternary (include "pretune.fullname" .) "default" }}
{{- default $made .Values.serviceAccount.name }}
{{- end }}

{{/* The operator's image. */}}
{{- define "pretune.image" -}}
{{- with .Values.image }}
{{- if .digest }}
{{- printf "%s@%s" .repository .digest }}
{{- else }}
{{- printf "%s:%s" .repository (default $.Chart.AppVersion .tag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* What the operator reads, as YAML. */}}
{{- define "pretune.settings" -}}
{{- $settings := deepCopy .Values.settings }}
{{- if not (hasKey $settings.pools $settings.defaultPool) }}
{{- $known := keys $settings.pools | sortAlpha | join ", " }}
{{- fail (printf "settings.defaultPool: there is no pool %s in settings.pools; known: %s" $settings.defaultPool $known) }}
{{- end }}
{{- range $kind := list "pretrain" "finetune" }}
{{- $image := printf "pretune/%s:%s" $kind $.Chart.AppVersion }}
{{- $_ := set $settings.images $kind (default $image (get $settings.images $kind)) }}
{{- end }}
{{- toYaml (set $settings "operatorNamespace" .Release.Namespace) }}
{{- end }}

{{/* What Pod Security "restricted" asks of a pod. */}}
{{- define "pretune.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* What Pod Security "restricted" asks of a container, and a root that cannot be written to. */}}
{{- define "pretune.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}

{{/* Selects the head pods of jobs: the labels are those of pretune_api.names, and KubeRay's. */}}
{{- define "pretune.headSelector" -}}
matchLabels:
  ray.io/node-type: head
matchExpressions:
  - {key: pretune.dev/name, operator: Exists}
{{- end }}
