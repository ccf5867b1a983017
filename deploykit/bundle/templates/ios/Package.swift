// swift-tools-version:5.9
// The model '$name' as a Swift package: .package(path: "<this folder>"), then `import $Class`.
import PackageDescription

let package = Package(
    name: "$Class",
    platforms: [.iOS(.v13), .macOS(.v11)],
    products: [.library(name: "$Class", targets: ["$Class"])],
    targets: [
        .target(
            name: "${Class}Engine",
            cxxSettings: [.define("NDEBUG")]
        ),
        .target(
            name: "$Class",
            dependencies: ["${Class}Engine"],
            resources: [.copy("$name.dk")]
        ),
    ],
    cxxLanguageStandard: .cxx20
)
