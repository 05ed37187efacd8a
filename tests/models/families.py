"""One backbone of each family, the smallest."""

ONE_OF_EACH_FAMILY = """lenet5 alexnet alexnet_2012 vgg11 vgg11_bn nin allcnn googlenet sppnet resnet20 resnet50
    densenet121 densenet40 convnext_atto mobilenet_v2 efficientnet_b0 unet deeplabv3""".split()
