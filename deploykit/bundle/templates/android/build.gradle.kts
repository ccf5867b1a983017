// A library module with the model '$name': copy this folder into the app's project, include(":$name") in settings.gradle.kts,
// implementation(project(":$name")) in the app.
plugins {
    id("com.android.library")
}

android {
    namespace = "$package"
    compileSdk = 34
    ndkVersion = "26.3.11579264" // r26 or newer: its Clang knows the kernels' instruction sets

    defaultConfig {
        minSdk = 21
        ndk {
            abiFilters += listOf("arm64-v8a", "x86_64")
        }
        externalNativeBuild {
            cmake {
                arguments += "-DANDROID_STL=none"
            }
        }
    }

    externalNativeBuild {
        cmake {
            path = file("src/main/cpp/CMakeLists.txt")
        }
    }

    androidResources {
        noCompress += "dk" // so that an asset can be mapped into memory
    }
}
