"""Media types of manifests, configs and layers: OCI image-spec media-types.md and Docker's schema 2."""

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
# Docker's name for a layer that is not compressed; Engine 20.10 and containerd 1.6 both pull it.
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"

# CNCF ModelPack, https://github.com/modelpack/model-spec/blob/main/docs/spec.md
MODEL_MANIFEST = "application/vnd.cncf.model.manifest.v1+json"
MODEL_CONFIG = "application/vnd.cncf.model.config.v1+json"
MODEL_LAYER = "application/vnd.cncf.model.weight.v1.tar"

REJECTION = "application/vnd.linkspan.rejection.v1+json"

IMAGES = (OCI_MANIFEST, DOCKER_MANIFEST)
INDEXES = (OCI_INDEX, DOCKER_INDEX)
MANIFESTS = (*IMAGES, *INDEXES)
