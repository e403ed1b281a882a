"""A stand-in for the Kubernetes API server, in this process: as much of it as a controller and a kubelet use.

The contract tests (`tests/net/test_kubernetes_contract.py`) ask it and the real one the same questions.

    resources.py   which kinds there are, and what a path means
    store.py       objects in memory, their versions, and what changed since
    fields.py      patches, and who owns which field (server-side apply)
    selectors.py   label and field selectors
    identity.py    who asks: a token, a service account, a bootstrap token, a certificate, nobody
    rbac.py        whether they may; the rules are objects, as kubeadm leaves them
    admission.py   what becomes of what is written
    background.py  signs cluster-info and certificates, approves, deletes expired tokens
    faults.py      what it does instead of answering
    watching.py    lists and watches
    cluster.py     the state, and its controllers (background.py)
    server.py      HTTP
"""
