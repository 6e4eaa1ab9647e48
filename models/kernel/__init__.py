"""Kernelised attention: the softmax is replaced by a feature map."""
